import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Fault, isFault } from '../../image/fault.ts'
import { CONSOLE_ANSWER_BYTES_MAX, type Host, type WantedConsistency } from '../contract.ts'
import {
  diskOf,
  type HostFixture,
  hostSuite,
  isFaultOf,
  MEBIBYTE,
  never,
  requestOf,
  said,
  specOf,
  untilSaid,
} from '../suite.ts'
import { BOOT_BANNER } from './guest.ts'
import { SimulatedHost, type SimulatedHostOptions, SimulatedState } from './host.ts'
import type { ServedDisk } from './served.ts'

/** Bases and exports are entries of a map, as sockets are entries of a folder. */
function around() {
  const content = new Map<string, (offset: number, lengthBytes: number) => Promise<Uint8Array>>()
  const contexts = new Map<string, ServedDisk['contexts']>()
  let count = 0
  const add = (read: (offset: number, lengthBytes: number) => Promise<Uint8Array>) => {
    const exportName = `export-${count++}`
    content.set(exportName, read)
    return exportName
  }
  const read = (exportName: string, offset: number, lengthBytes: number) => {
    const found = content.get(exportName)
    assert.ok(found, `nobody serves ${exportName}`)
    return found(offset, lengthBytes)
  }
  const options: SimulatedHostOptions = {
    state: new SimulatedState(),
    readBase: (base, offset, lengthBytes) => read(base.exportName, offset, lengthBytes),
    serve: async (disk) => {
      const exportName = add((offset, lengthBytes) => disk.read(offset, lengthBytes))
      contexts.set(exportName, disk.contexts)
      return {
        socketPath: '/simulated',
        exportName,
        close: async () => {
          content.delete(exportName)
        },
      }
    },
  }
  const status = (exportName: string, context: string, sizeBytes: number) => {
    const statusOf = contexts.get(exportName)?.get(context)
    assert.ok(statusOf, `${exportName} does not tell ${context}`)
    return statusOf(0, sizeBytes)
  }
  return { content, add, read, status, options }
}

async function make(): Promise<HostFixture> {
  const { add, read, status, options } = around()
  const host = new SimulatedHost(options)
  return {
    host,
    reopen: async () => new SimulatedHost(options),
    serveBase: async (bytes) => ({
      socketPath: '/simulated',
      exportName: add(async (offset, lengthBytes) => bytes.subarray(offset, offset + lengthBytes)),
      sizeBytes: bytes.length,
    }),
    readExport: async (disk, offset, lengthBytes) =>
      Buffer.from(await read(disk.exportName, offset, lengthBytes)),
    readStatus: async (disk, context) => status(disk.mapName, context, disk.sizeBytes),
    bootDisk: (sizeBytes) => Buffer.concat([Buffer.alloc(512, 'content')], sizeBytes),
    guest: {
      banner: BOOT_BANNER,
      fill: async (driver: Host, id, disk, sector, character) => {
        const { length } = await said(driver, id)
        const line = `write ${disk} ${sector * 512} ${character.repeat(512)}\n`
        await driver.writeConsole(id, Buffer.from(line))
        await untilSaid(driver, id, 'written', length)
      },
      crash: (id) => host.crashGuest(id),
    },
    leftovers: async (id) => (options.state.machines.has(id) ? [id] : []),
    close: () => host.close(),
  }
}

hostSuite('simulated', true, make)

test('a guest is up after its ticks and deaf before', async () => {
  const { options } = around()
  const host = new SimulatedHost({ ...options, bootTicks: 3 })
  const spec = specOf([diskOf('virtio-blk', MEBIBYTE)])
  await host.ensureMachine(spec, never())
  await host.ensureStarted(spec.id, never())
  await host.writeConsole(spec.id, Buffer.from('echo early\n'))
  host.tick(2)
  assert.equal((await said(host, spec.id)).length, 0)
  host.tick()
  await host.writeConsole(spec.id, Buffer.from('echo hel'))
  await host.writeConsole(spec.id, Buffer.from('lo you\nwrite 0 4095 abc\ncat 0 4094 5\n'))
  const text = (await said(host, spec.id)).toString('latin1')
  assert.equal(
    text,
    `${BOOT_BANNER}echo hello you\nhello you\n# write 0 4095 abc\nwritten\n# cat 0 4094 5\n\0abc\0\n# `,
  )
  await host.writeConsole(spec.id, Buffer.from('cat 0 1048576 1\ncat 1 0 1\nreboot\npoweroff\n'))
  assert.equal(await host.power(spec.id), 'stopped')
  const rest = (await said(host, spec.id, text.length)).toString('latin1')
  assert.match(rest, /cat: no such place\n.*\ncat: no such place\n.*\nreboot: not found\n/)
})

test('a fault told beforehand hits the next call and changes nothing', async () => {
  const { options } = around()
  const host = new SimulatedHost(options)
  const spec = specOf([diskOf('virtio-blk', MEBIBYTE)])
  host.failNext('ensureMachine', new Fault('full', 'No room.'))
  host.failNext('openExports', new Fault('unavailable', 'Not now.'))
  await assert.rejects(host.ensureMachine(spec, never()), isFaultOf('full'))
  assert.equal(await host.power(spec.id), 'absent')
  await host.ensureMachine(spec, never())
  await assert.rejects(host.openExports(spec.id, 'k', requestOf(spec), never()), isFaultOf('unavailable'))
  assert.equal((await host.openExports(spec.id, 'k', requestOf(spec), never())).moment, 'new')
})

test('lost exports are made anew; a server that fails half-way leaves none', async () => {
  const { content, options } = around()
  const host = new SimulatedHost(options)
  const spec = specOf([diskOf('virtio-blk', MEBIBYTE), diskOf('virtio-blk', MEBIBYTE)])
  await host.ensureMachine(spec, never())
  await host.openExports(spec.id, 'k', requestOf(spec), never())
  await host.loseExports(spec.id)
  assert.equal((await host.openExports(spec.id, 'k', requestOf(spec), never())).moment, 'new')
  await host.closeExports(spec.id, 'k', 'given-up')
  assert.equal(content.size, 0)
  let calls = 0
  const failing = new SimulatedHost({
    ...options,
    serve: async (disk) => {
      if (calls++ === 1) throw new Fault('unavailable', 'No socket.')
      return await options.serve(disk)
    },
  })
  await assert.rejects(failing.openExports(spec.id, 'k', requestOf(spec), never()), isFaultOf('unavailable'))
  assert.equal(content.size, 0)
})

test('a console is read in pieces, as with a real host', async () => {
  const { options } = around()
  const host = new SimulatedHost(options)
  const spec = specOf([diskOf('virtio-blk', MEBIBYTE)])
  await host.ensureMachine(spec, never())
  await host.ensureStarted(spec.id, never())
  await host.writeConsole(spec.id, Buffer.from(`cat 0 0 ${MEBIBYTE / 2}\n`))
  const first = await host.readConsole(spec.id, 0)
  assert.deepEqual([first.fromByte, first.bytes.length], [0, CONSOLE_ANSWER_BYTES_MAX])
  const second = await host.readConsole(spec.id, CONSOLE_ANSWER_BYTES_MAX)
  assert.deepEqual(
    [second.fromByte, second.bytes.length],
    [CONSOLE_ANSWER_BYTES_MAX, CONSOLE_ANSWER_BYTES_MAX],
  )
})

test('what the agent can do is what a capture gets, if it asks; a level beyond it is refused', async () => {
  const { content, options } = around()
  const host = new SimulatedHost(options)
  const spec = specOf([diskOf('virtio-blk', MEBIBYTE)])
  await host.ensureMachine(spec, never())
  await host.ensureStarted(spec.id, never())
  const os = { type: 'Linux', name: 'Debian GNU/Linux 12' } as const
  const consistencyWhy = 'Only file systems were frozen.'
  host.setAgent(spec.id, { consistency: 'filesystem', consistencyWhy, frozenMs: 7, os })
  const again = new SimulatedHost(options)
  const outlook = { power: 'running', consistency: 'filesystem', consistencyWhy }
  assert.deepEqual(await again.outlook(spec.id, never()), outlook)
  const open = async (consistency: WantedConsistency) => {
    const exports = await again.openExports(spec.id, 'k', requestOf(spec, { consistency }), never())
    await again.closeExports(spec.id, 'k', 'given-up')
    return exports
  }
  for (const wanted of ['best', 'filesystem', 'crash'] as const) {
    const exports = await open(wanted)
    const isAsked = wanted !== 'crash'
    assert.equal(exports.consistency, isAsked ? 'filesystem' : 'crash')
    assert.equal(exports.frozenMs, isAsked ? 7 : 0)
    assert.deepEqual(exports.os, isAsked ? os : undefined)
    assert.notEqual(exports.consistencyWhy, '')
  }
  const isTooLittle = (error: unknown) => isFault(error, 'conflict') && error.reason === 'consistency'
  await assert.rejects(open('application'), isTooLittle)
  assert.equal(content.size, 0)
  host.setAgent(spec.id, undefined)
  await assert.rejects(open('filesystem'), isTooLittle)
})

test('of captures that begin at once one goes on, and what is written meanwhile is noted for the next', async () => {
  const { options } = around()
  const host = new SimulatedHost(options)
  const spec = specOf([diskOf('virtio-blk', MEBIBYTE)])
  const [disk] = spec.disks
  assert.ok(disk)
  await host.ensureMachine(spec, never())
  await host.ensureStarted(spec.id, never())
  const gate = Promise.withResolvers<void>()
  const slow = new SimulatedHost({
    ...options,
    serve: async (served) => {
      await gate.promise
      return await options.serve(served)
    },
  })
  const first = slow.openExports(spec.id, 'k1', requestOf(spec), never())
  const second = host.openExports(spec.id, 'k2', requestOf(spec), never())
  const refused = assert.rejects(second, isFaultOf('conflict'))
  // The moment is the start of the first, although it is not served yet.
  await new Promise((resolve) => setImmediate(resolve))
  await host.writeConsole(spec.id, Buffer.from('write 0 8192 late\n'))
  gate.resolve()
  assert.equal((await first).moment, 'new')
  await refused
  await host.closeExports(spec.id, 'k1', 'taken')
  const request = requestOf(spec, { since: { [disk.id]: 'k1' } })
  const next = await host.openExports(spec.id, 'k2', request, never())
  assert.deepEqual(next.disks[0]?.changes, { name: 'qemu:dirty-bitmap:since-k2', most: 1 })
})
