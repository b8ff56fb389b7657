// What every script here takes: the address of a server and a shape, and how it prints.
//
//   URL    http://127.0.0.1:3000, with or without /v1/shape
//   SHAPE  a table's name, or JSON: {"table", "where", "params", "columns", "replica", "handle", "offset"};
//          with "liveSse" changes come as server-sent events, and each request is printed, too

import { ShapeStream } from "@electric-sql/client"

/** The options of a stream from two command line arguments. */
export function streamOptions(address, shape) {
  const url = new URL(address)
  if (url.pathname === "/") url.pathname = "/v1/shape"
  const { handle, offset, liveSse, ...params } = shape.startsWith("{") ? JSON.parse(shape) : { table: shape }
  const streaming = liveSse && { liveSse, fetchClient: printingFetch }
  return { url: url.href, params, ...(handle && { handle, offset }), ...streaming }
}

function printingFetch(address, options) {
  print({ request: Object.fromEntries(new URL(address).searchParams) })
  return fetch(address, options)
}

/** A stream that ends the process when it fails for good. */
export function openStream(options) {
  return new ShapeStream({
    ...options,
    onError: (error) => {
      printAndExit({ error: error.name, status: error.status, message: error.message }, 1)
    },
  })
}

/** A value as JSON. An int8 is a BigInt here, JSON has only its text. */
export function toJson(value) {
  return JSON.stringify(value, (_, each) => (typeof each === "bigint" ? each.toString() : each))
}

/** One line of JSON on standard output. */
export function print(value, then) {
  process.stdout.write(toJson(value) + "\n", then)
}

/** The last line: the process ends when it has been written; a pipe takes 64 KB at once. */
export function printAndExit(value, status = 0) {
  print(value, () => process.exit(status))
}

/** Whether a row has all of the marker's values. */
export function hasValues(row, marker) {
  return Object.entries(marker).every(([name, value]) => String(row[name]) === String(value))
}

// The process that started the script has ended: end too.
process.stdout.on("error", () => process.exit(0))
