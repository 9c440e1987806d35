import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { waitForTask } from '../../demo/steps.ts'
import { buildQcow2 } from '../../src/disk/formats/qcow2.fixture.ts'
import { vmdkDescriptor } from '../../src/disk/formats/vmdk.fixture.ts'
import type { ShownMachine } from '../../src/wire/native/show.ts'
import { run } from '../disks/programs.ts'
import { HOME } from '../e2e/failure-steps.ts'
import type { Place } from '../e2e/harness.ts'
import { hasReader } from './canary.ts'
import { newHostilePlace } from './hostile-place.ts'
import { type Begun, beginImport, imported } from './transfer-place.ts'

const DISK_BYTES = 4 * 1024 ** 2
const CANARY = '/tmp/canary-of-a-guest'

/** A disk of random bytes on which a guest wrote, from sector 0 on, what other programs take for a file of its own. */
function disk(head: Buffer): Buffer {
  const bytes = randomBytes(DISK_BYTES)
  head.copy(bytes)
  return bytes
}

const byGuests = {
  qcow2: (path: string) =>
    disk(buildQcow2({ virtualBytes: DISK_BYTES, backing: { name: path, format: 'raw' } })),
  data: (path: string) =>
    disk(buildQcow2({ virtualBytes: DISK_BYTES, dataFile: { hasBit: true, name: path } })),
  vmdk: (path: string) =>
    disk(Buffer.from(vmdkDescriptor('monolithicFlat', [`RW 8192 FLAT "${path}" 0`]).padEnd(1024, '\0'))),
}

async function download(place: Place, imageId: string, format: string): Promise<Buffer> {
  const { native, endpoint } = place.server
  const body = { region: HOME, format }
  const { path } = await native.call<{ path: string }>('POST', `/v1/images/${imageId}/exports`, { body })
  const answer = await fetch(new URL(path, endpoint))
  assert.equal(answer.status, 200)
  return Buffer.from(await answer.arrayBuffer())
}

async function capture(place: Place, machineId: string, name: string): Promise<Begun> {
  const body = { region: HOME, machineId, name, disks: 'all' }
  return place.server.native.call<Begun>('POST', '/v1/images/capture', { body })
}

test('what a guest wrote to the head of its own disk stays content, from the capture to the exported file', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'calo-guest-'))
  const data = join(folder, 'd')
  const pipe = `${CANARY}-${process.pid}`
  await run('mkfifo', [pipe])
  const disks = new Map<string, Buffer>()
  for (const [name, make] of Object.entries(byGuests)) {
    const bytes = make(pipe)
    disks.set(name, bytes)
    await mkdir(join(data, 'machines', name), { recursive: true })
    await writeFile(join(data, 'machines', name, 'system.raw'), bytes)
  }
  const place = await newHostilePlace(t, { CALOTYPE_HOST_DRIVER: 'files' }, { data })
  t.after(() => Promise.all([folder, pipe].map((path) => rm(path, { recursive: true, force: true }))))
  const { machines } = await place.server.native.call<{ machines: ShownMachine[] }>('GET', '/v1/machines', {
    query: { region: HOME, limit: 100 },
  })
  for (const [name, bytes] of disks) {
    await t.test(name, async () => {
      const machine = machines.find((one) => one.name === name)
      assert(machine !== undefined)
      const image = await imported(place, await capture(place, machine.id, `${name}-1`))
      const again = await imported(place, await capture(place, machine.id, `${name}-2`))
      assert.equal(again.digest, image.digest)
      assert.deepEqual(
        image.disks.map(({ sizeBytes }) => sizeBytes),
        [DISK_BYTES],
      )
      assert.ok((await download(place, image.id, 'raw')).equals(bytes), 'the disk is the same, byte for byte')
      const path = join(folder, `${name}.qcow2`)
      await writeFile(path, await download(place, image.id, 'qcow2'))
      const info = await run('qemu-img', ['info', '--output=json', '-f', 'qcow2', path])
      assert.doesNotMatch(info, /backing|"data-file": "/)
      const raw = join(data, 'machines', name, 'system.raw')
      await run('qemu-img', ['compare', '-s', '-f', 'qcow2', '-F', 'raw', path, raw])
      // The way back: a file that says that it is a disk brings it in; the bare bytes, from a stranger, are refused.
      await writeFile(join(place.imports, `${name}.qcow2`), await download(place, image.id, 'qcow2'))
      const back = await imported(
        place,
        await beginImport(place, { fileName: `${name}.qcow2` }, `${name}-back`),
      )
      assert.ok((await download(place, back.id, 'raw')).equals(bytes), 'and comes back the same')
      assert.equal((await beginRaw(place, name, bytes)).faultKind, 'invalid')
      for (const line of await place.tools.startedQemu()) {
        assert.doesNotMatch(line, new RegExp(CANARY), 'no tool is told of it')
      }
      assert.equal(await hasReader(pipe), false)
    })
  }
})

async function beginRaw(place: Awaited<ReturnType<typeof newHostilePlace>>, name: string, bytes: Buffer) {
  await writeFile(join(place.imports, `${name}.raw`), bytes)
  const { taskId } = await beginImport(place, { fileName: `${name}.raw` }, `${name}-raw`, { format: 'raw' })
  return waitForTask(place.server, taskId)
}
