import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { Fault } from '../../image/fault.ts'
import { QMP_REFUSED, Qmp } from './qmp.ts'

test("QEMU's words are the cause of a refusal and never its message, for they name paths", async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'calotype-qmp-'))
  const words = [
    `Could not open '${folder}/disk'`,
    `Could not write '${folder}/disk': No space left on device`,
  ]
  const server = createServer((socket) => {
    socket.write('{"QMP": {}}\n')
    socket.on('data', (bytes) => {
      for (const line of String(bytes).trim().split('\n')) {
        const { id, execute } = JSON.parse(line)
        const desc = words[Number(execute)]
        socket.write(`${JSON.stringify(desc === undefined ? { id, return: {} } : { id, error: { desc } })}\n`)
      }
    })
  })
  await new Promise<void>((resolve) => server.listen(join(folder, 'q'), resolve))
  const qmp = await Qmp.open(join(folder, 'q'))
  t.after(async () => {
    qmp.close()
    server.close()
    await rm(folder, { recursive: true })
  })
  for (const [index, kind] of ['unavailable', 'full'].entries()) {
    await assert.rejects(qmp.execute(String(index)), (error) => {
      assert.ok(error instanceof Fault && error.cause instanceof Error)
      assert.deepEqual([error.kind, error.reason, error.cause.message], [kind, QMP_REFUSED, words[index]])
      assert.ok(!error.message.includes('/'), error.message)
      return true
    })
  }
})
