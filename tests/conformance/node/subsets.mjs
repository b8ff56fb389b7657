// Follows the changes of a shape and loads subsets of it, one after another; keeps the rows of both.
//
//   node subsets.mjs URL SHAPE METHOD SUBSETS MARKER
//
// METHOD is how subsets are asked for, GET or POST; SUBSETS is a JSON array of what `requestSnapshot` takes.
// Prints {"started": true}, then {"loaded": <rows>} per subset, then, when a row has the marker's values,
// {"rows": […], "doubled": […]}: the rows, and the inserted keys that were there already. A subset that is refused
// ends it with {"error", "status", "message"}.

import { Shape } from "@electric-sql/client"
import { hasValues, openStream, print, printAndExit, streamOptions } from "./arguments.mjs"

const [address, shapeText, method, subsetsText, markerText] = process.argv.slice(2)
const marker = JSON.parse(markerText)

const stream = openStream({ ...streamOptions(address, shapeText), log: "changes_only", subsetMethod: method })
const shape = new Shape(stream)
const present = new Set()
const doubled = []
stream.subscribe((messages) => messages.forEach(count))
await shape.rows
print({ started: true })

for (const subset of JSON.parse(subsetsText)) {
  try {
    const { data } = await stream.requestSnapshot(subset)
    print({ loaded: data.length })
  } catch (error) {
    printAndExit({ error: error.name, status: error.status, message: error.message }, 1)
  }
}

let isOver = false
shape.subscribe(({ rows }) => look(rows))
look(shape.currentRows)

function count({ key, headers }) {
  if (headers.operation === "delete") present.delete(key)
  if (headers.operation !== "insert") return
  if (present.has(key) && headers.snapshot_mark === undefined) doubled.push(key)
  present.add(key)
}

function look(rows) {
  if (isOver || !rows.some((row) => hasValues(row, marker))) return
  isOver = true
  printAndExit({ rows, doubled })
}
