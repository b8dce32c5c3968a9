#!/usr/bin/env node
/** The `groundup` command. To add a command, write its file and one line in this table. */
import { type CommandTable, dispatch } from "./dispatch.ts";
import { packageVersion } from "./package-version.ts";

const COMMANDS: CommandTable = [["doctor", "what this machine offers: backend and why, CPU features, threads, memory", () => import("./doctor.ts")]];

await dispatch(COMMANDS, process.argv.slice(2), packageVersion());
