// Many streams of one process on one shape. Each keeps its rows until one has the marker's values.
//
//   node herd.mjs URL SHAPE COUNT MARKER
//
// Prints {"synced": <streams>} when all were up to date once, then {"distinct": <different results>, "rows": […]}.

import { Shape } from "@electric-sql/client"
import { hasValues, openStream, print, printAndExit, streamOptions, toJson } from "./arguments.mjs"

const [address, shapeText, count, markerText] = process.argv.slice(2)
const marker = JSON.parse(markerText)
const options = streamOptions(address, shapeText)

const shapes = Array.from({ length: Number(count) }, () => new Shape(openStream(options)))
await Promise.all(shapes.map((shape) => shape.rows))
print({ synced: shapes.length })

const results = await Promise.all(shapes.map(rowsWithMarker))
const texts = new Set(results.map((rows) => rows.map(toJson).sort().join()))
printAndExit({ distinct: texts.size, rows: results[0] })

function rowsWithMarker(shape) {
  return new Promise((resolve) => {
    const look = (rows) => rows.some((row) => hasValues(row, marker)) && resolve(rows)
    shape.subscribe(({ rows }) => look(rows))
    look(shape.currentRows)
  })
}
