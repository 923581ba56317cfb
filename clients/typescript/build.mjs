// Builds dist/esm and dist/cjs from the same sources, each with its types.
import { execFileSync } from "node:child_process";
import { cpSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(fileURLToPath(import.meta.url));
const tsc = join(root, "node_modules/typescript/bin/tsc");
rmSync(join(root, "dist"), { recursive: true, force: true });
execFileSync(process.execPath, [tsc, "-p", root, "--outDir", join(root, "dist/esm")], { stdio: "inherit" });
// The same files, taken for CommonJS because the package.json beside them does not say "module".
const common = join(root, "dist/common");
mkdirSync(common, { recursive: true });
cpSync(join(root, "src"), join(common, "src"), { recursive: true });
writeFileSync(join(common, "package.json"), '{"type":"commonjs"}\n');
writeFileSync(join(common, "tsconfig.json"), JSON.stringify({ extends: "../../tsconfig.json", compilerOptions: { rootDir: "src", outDir: "../cjs" }, include: ["src"] }));
execFileSync(process.execPath, [tsc, "-p", common], { stdio: "inherit" });
rmSync(common, { recursive: true });
writeFileSync(join(root, "dist/cjs/package.json"), '{"type":"commonjs"}\n');
