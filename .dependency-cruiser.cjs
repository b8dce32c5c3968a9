// The floors of the house (docs/architecture.md): a file imports from its own floor or from below.
// Circles are Biome's (noImportCycles), which knows that imports of types alone are none.

const FLOORS = [
  ["tensor"],
  ["nn", "optim"],
  ["models", "tokenizers", "data", "formats"],
  ["generate", "train"],
  ["tune", "align", "eval"],
  ["serve", "rag", "agents"],
  ["cli", "studio"],
];

// These will run in browsers: files reach them through the `Source` and `Folder` interfaces.
const BROWSER = "^src/(tensor|nn|optim|models|tokenizers|generate)/";
// Files that are for Node alone. They may be imported dynamically, where a path was given instead of a `Folder`.
const FOR_NODE =
  "^src/(formats/(node-file|atomic-write|checkpoint-folder|process-lock|hub/[^/]+|safetensors-save|gguf/files|index)|data/(read-documents|write-shards|index))\\.ts$";

const folders = (floors) => `^src/(${floors.flat().join("|")})/`;

/** @type {import("dependency-cruiser").IConfiguration} */
module.exports = {
  forbidden: [
    ...FLOORS.slice(0, -1).map((floor, i) => ({
      name: `floor-${floor.join("-")}`,
      comment: `${floor.join(", ")}: imports from a floor above. Move what both need down, or pass it in.`,
      severity: "error",
      from: { path: folders([floor]) },
      to: { path: folders(FLOORS.slice(i + 1)) },
    })),
    {
      name: "ground",
      comment: "The files directly in src/ (errors and the like) are the ground; only index.ts imports tensors.",
      severity: "error",
      from: { path: "^src/[^/]+\\.ts$", pathNot: "^src/index\\.ts$" },
      to: { path: "^src/[^/]+/" },
    },
    {
      name: "no-node-in-browser-floors",
      comment: "This floor must run in browsers. Take a Source or Folder, or import a Node file dynamically.",
      severity: "error",
      from: { path: BROWSER },
      to: { dependencyTypes: ["core"] },
    },
    {
      name: "no-node-files-in-browser-floors",
      comment: "This floor must run in browsers: import formats and data file by file, and Node's files dynamically.",
      severity: "error",
      from: { path: BROWSER },
      to: { path: FOR_NODE, dependencyTypesNot: ["dynamic-import"] },
    },
    {
      name: "native-in-one-place",
      comment: "Only the backend and the tokenizers' engine speak to the native library.",
      severity: "error",
      from: { path: "^src/", pathNot: "^src/(tensor/|tokenizers/(byte-level|chat-template)/native-|cli/doctor\\.ts$)" },
      to: { path: "^src/tensor/native" },
    },
    {
      name: "declared-packages-only",
      comment: "A package that is not in dependencies is absent where groundup is installed.",
      severity: "error",
      from: { path: "^src/" },
      to: { dependencyTypes: ["npm-dev", "npm-no-pkg", "npm-unknown"] },
    },
    { name: "resolvable", comment: "This file or package does not exist.", severity: "error", from: {}, to: { couldNotResolve: true } },
  ],
  options: {
    parser: "swc",
    doNotFollow: { path: "node_modules" },
    exclude: { path: "\\.test\\.ts$" },
    enhancedResolveOptions: { extensions: [".ts", ".js"], conditionNames: ["groundup-source", "import", "node", "default"], exportsFields: ["exports"] },
  },
};
