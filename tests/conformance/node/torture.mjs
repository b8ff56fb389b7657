// Follows many shapes and prints what each subscriber gets, one line of JSON each, until the pipe is closed.
//
//   node torture.mjs URL SHAPES
//
// SHAPES is a JSON array of {"params", "log", "liveSse"}. Lines are {"n", "messages", "handle", "offset"} with the
// number of the shape, or {"n", "error", "status"} when a stream has ended for good; another one is then opened.

import { ShapeStream } from "@electric-sql/client"
import { print } from "./arguments.mjs"

const [address, shapesText] = process.argv.slice(2)
const asText = (text) => text
const parser = Object.fromEntries(
  ["int2", "int4", "int8", "bool", "float4", "float8", "json", "jsonb"].map((type) => [type, asText]),
)
const backoffOptions = { initialDelay: 100, maxDelay: 2000, multiplier: 1.5 }

function follow(options, n) {
  let isOver = false
  const over = (error) => {
    if (isOver) return
    isOver = true
    print({ n, error: String(error?.message ?? error), status: error?.status ?? null })
    setTimeout(() => follow(options, n), 300)
  }
  const stream = new ShapeStream({
    ...options, url: `${address}/v1/shape`, parser, backoffOptions, onError: (error) => { over(error) },
  })
  stream.subscribe(
    (messages) => { if (!isOver) print({ n, messages, handle: stream.shapeHandle, offset: stream.lastOffset }) },
    over,
  )
}

JSON.parse(shapesText).forEach(follow)
