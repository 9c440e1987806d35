import { COMMITTED, CONDEMNED, type IndexDatabase, REMOVING } from './database.ts'

const NOT_HELD = 'NOT EXISTS (SELECT 1 FROM sessionObject s WHERE s.object = number)'
const NOT_BOUND = 'NOT EXISTS (SELECT 1 FROM imageObject b WHERE b.object = number)'
const NOT_NAMED = 'NOT EXISTS (SELECT 1 FROM ref r WHERE r.digest = substr(object.name, 8))'
const UNNAMED_REF = `state = ${COMMITTED} AND name >= 'refs/' AND name < 'refs0'
  AND NOT EXISTS (SELECT 1 FROM ref r WHERE r.name = object.name)`
const ROW = 'number, name, sizeBytes'

/** Every question that a collection asks of the index. Conditions of an update are those of the look before it. */
export function gcStatements(database: IndexDatabase) {
  const unneeded = `state = ${COMMITTED} AND name >= 'images/' AND name < 'images0' AND ${NOT_HELD} AND ${NOT_NAMED}`
  const replaced = `${UNNAMED_REF} AND ${NOT_HELD} AND EXISTS (SELECT 1 FROM ref r
    WHERE r.holder = substr(object.name, 6, instr(substr(object.name, 6), '/') - 1))`
  const sql = {
    removing: `SELECT ${ROW} FROM object WHERE state = ${REMOVING} AND ${NOT_HELD}`,
    known: 'SELECT 1 FROM object WHERE name = ?',
    addStranger: `INSERT OR IGNORE INTO object (name, sizeBytes, state, sinceMs) VALUES (?, ?, ${CONDEMNED}, ?)`,
    unneededImages: `SELECT ${ROW} FROM object WHERE ${unneeded}`,
    condemnImage: `UPDATE object SET state = ${CONDEMNED}, sinceMs = ? WHERE number = ? AND ${unneeded}`,
    boundImages: `SELECT ${ROW} FROM object WHERE state = ${CONDEMNED} AND name >= 'images/' AND name < 'images0'
      AND EXISTS (SELECT 1 FROM imageObject b WHERE b.image = number)`,
    stateOf: 'SELECT state FROM object WHERE number = ?',
    boundBy: 'SELECT object FROM imageObject WHERE image = ? LIMIT ?',
    unbind: 'DELETE FROM imageObject WHERE image = ? AND object = ?',
    forgetLive: 'UPDATE object SET liveBytes = NULL WHERE number = ?',
    unnamedRefs: `SELECT ${ROW} FROM object WHERE ${UNNAMED_REF}`,
    addRef: 'INSERT OR IGNORE INTO ref VALUES (?, ?, ?)',
    replacedRefs: `SELECT ${ROW} FROM object WHERE ${replaced}`,
    condemnRef: `UPDATE object SET state = ${CONDEMNED}, sinceMs = ? WHERE number = ? AND ${replaced}`,
    unbound: `SELECT ${ROW} FROM object o WHERE state = ${COMMITTED} AND name >= ?1 AND name < ?2 AND ${NOT_HELD}
      AND NOT EXISTS (SELECT 1 FROM imageObject b WHERE b.object = o.number
        AND b.image NOT IN (SELECT value FROM json_each(?3)))`,
    condemn: `UPDATE object SET state = ${CONDEMNED}, sinceMs = ? WHERE number = ? AND state = ${COMMITTED}
      AND ${NOT_HELD} AND ${NOT_BOUND}`,
    unlooked: `SELECT number, max(1, sizeBytes / 65536) AS chunkCount FROM object WHERE state = ${COMMITTED}
      AND name >= 'packs/' AND name < 'packs0' AND liveBytes IS NULL ORDER BY number`,
    // Not while an image that is still being written binds it: it cannot be read, and counts as needing all.
    setLive: `UPDATE object SET liveBytes = ? WHERE number = ? AND state = ${COMMITTED} AND NOT EXISTS (
      SELECT 1 FROM imageObject b JOIN object i ON i.number = b.image
      WHERE b.object = object.number AND i.state <> ${COMMITTED})`,
    sparse: `SELECT ${ROW}, liveBytes FROM object WHERE state = ${COMMITTED} AND liveBytes < ? * sizeBytes
      AND name >= 'packs/' AND name < 'packs0' ORDER BY number`,
    condemned: `SELECT ${ROW} FROM object WHERE state = ${CONDEMNED} AND sinceMs <= ?`,
    remove: `UPDATE object SET state = ${REMOVING} WHERE number = ? AND state = ${CONDEMNED} AND sinceMs <= ?
      AND ${NOT_HELD}`,
    sums: `SELECT sum(CASE WHEN state = ${COMMITTED} AND domain IS NOT NULL THEN sizeBytes END) AS storedBytes,
      sum(CASE WHEN state = ${COMMITTED} AND domain IS NOT NULL THEN coalesce(liveBytes, sizeBytes) END) AS liveBytes,
      sum(CASE WHEN state = ${CONDEMNED} THEN sizeBytes END) AS condemnedBytes FROM object`,
  }
  type Statements = { [Name in keyof typeof sql]: ReturnType<typeof database.prepare> }
  return Object.fromEntries(
    Object.entries(sql).map(([name, text]) => [name, database.prepare(text)]),
  ) as Statements
}
