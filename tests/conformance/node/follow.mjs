// Follows a shape and prints its messages, one line of JSON each, with the position after each batch.
//
//   node follow.mjs URL SHAPE

import { openStream, print, streamOptions } from "./arguments.mjs"

const [address, shape] = process.argv.slice(2)
if (!address || !shape) {
  console.error("usage: node follow.mjs URL SHAPE")
  process.exit(2)
}

const stream = openStream(streamOptions(address, shape))
stream.subscribe((messages) => {
  for (const message of messages) print(message)
  print({ position: { handle: stream.shapeHandle, offset: stream.lastOffset } })
})
