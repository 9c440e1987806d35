import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Fault } from '../../image/fault.ts'
import { CONSOLE_ANSWER_BYTES_MAX, type Host } from '../contract.ts'
import {
  diskOf,
  type HostFixture,
  hostSuite,
  isFaultOf,
  MEBIBYTE,
  never,
  said,
  specOf,
  untilSaid,
} from '../suite.ts'
import { BOOT_BANNER } from './guest.ts'
import { SimulatedHost, type SimulatedHostOptions, SimulatedState } from './host.ts'

/** Bases and exports are entries of a map, as sockets are entries of a folder. */
function around() {
  const content = new Map<string, (offset: number, lengthBytes: number) => Promise<Uint8Array>>()
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
      return {
        socketPath: '/simulated',
        exportName,
        close: async () => {
          content.delete(exportName)
        },
      }
    },
  }
  return { content, add, read, options }
}

async function make(): Promise<HostFixture> {
  const { add, read, options } = around()
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
  await assert.rejects(host.openExports(spec.id, 'k', never()), isFaultOf('unavailable'))
  assert.equal((await host.openExports(spec.id, 'k', never())).moment, 'new')
})

test('lost exports are made anew; a server that fails half-way leaves none', async () => {
  const { content, options } = around()
  const host = new SimulatedHost(options)
  const spec = specOf([diskOf('virtio-blk', MEBIBYTE), diskOf('virtio-blk', MEBIBYTE)])
  await host.ensureMachine(spec, never())
  await host.openExports(spec.id, 'k', never())
  await host.loseExports(spec.id)
  assert.equal((await host.openExports(spec.id, 'k', never())).moment, 'new')
  await host.closeExports(spec.id, 'k')
  assert.equal(content.size, 0)
  let calls = 0
  const failing = new SimulatedHost({
    ...options,
    serve: async (disk) => {
      if (calls++ === 1) throw new Fault('unavailable', 'No socket.')
      return await options.serve(disk)
    },
  })
  await assert.rejects(failing.openExports(spec.id, 'k', never()), isFaultOf('unavailable'))
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
