/** Pages out what files it has mapped, and prints how many kB of them it had before and after. */
import { pageOutFiles } from "../../ffi/page_out.ts";
import { residentFiles_kb } from "./resident_files.ts";

const before = residentFiles_kb();
pageOutFiles();
console.log(JSON.stringify([before, residentFiles_kb()]));
