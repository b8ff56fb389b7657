// What every script here takes: the address of a server and a shape, and how it prints.
//
//   URL    http://127.0.0.1:3000, with or without /v1/shape
//   SHAPE  a table's name, or JSON: {"table", "where", "params", "columns", "replica", "handle", "offset"}

import { ShapeStream } from "@electric-sql/client"

/** The options of a stream from two command line arguments. */
export function streamOptions(address, shape) {
  const url = new URL(address)
  if (url.pathname === "/") url.pathname = "/v1/shape"
  const { handle, offset, ...params } = shape.startsWith("{") ? JSON.parse(shape) : { table: shape }
  return { url: url.href, params, ...(handle && { handle, offset }) }
}

/** A stream that ends the process when it fails for good. */
export function openStream(options) {
  return new ShapeStream({
    ...options,
    onError: (error) => {
      print({ error: error.name, status: error.status, message: error.message })
      process.exit(1)
    },
  })
}

/** One line of JSON on standard output. An int8 is a BigInt here, JSON has only its text. */
export function print(value) {
  process.stdout.write(
    JSON.stringify(value, (_, each) => (typeof each === "bigint" ? each.toString() : each)) + "\n"
  )
}

/** Whether a row has all of the marker's values. */
export function hasValues(row, marker) {
  return Object.entries(marker).every(([name, value]) => String(row[name]) === String(value))
}

// Whoever started the script has gone away: so do we.
process.stdout.on("error", () => process.exit(0))
