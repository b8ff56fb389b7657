// Keeps the rows of a shape until one of them has the marker's values, then prints all of them and ends.
//
//   node rows.mjs URL SHAPE MARKER
//
// MARKER is JSON, {"id": 7}. A first line, {"synced": <rows>}, says that the shape was up to date once.

import { Shape } from "@electric-sql/client"
import { hasValues, openStream, print, printAndExit, streamOptions } from "./arguments.mjs"

const [address, shapeText, markerText] = process.argv.slice(2)
const marker = JSON.parse(markerText)

const shape = new Shape(openStream(streamOptions(address, shapeText)))
const first = await shape.rows
print({ synced: first.length })

let isOver = false
shape.subscribe(({ rows }) => look(rows))
look(shape.currentRows)

function look(rows) {
  if (isOver || !rows.some((row) => hasValues(row, marker))) return
  isOver = true
  printAndExit({ rows })
}
