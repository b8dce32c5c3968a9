/** groundup: tensors and errors. The other areas have entries of their own: groundup/models, groundup/tokenizers, … */
export * from "./errors.ts";
export * from "./tensor/index.ts";
