import assert from 'node:assert/strict'
import { mkdir, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { bootDisk } from '../boot-guest.ts'
import type { MachineSpec } from '../contract.ts'
import { RealPlace } from '../fixture.ts'
import { diskOf, MEBIBYTE, never, specOf, until } from '../suite.ts'
import { MachineFolders } from '../tools/folders.ts'
import { endProcess, findProcess } from '../tools/processes.ts'
import { readConsoleLog, typeConsole } from './console.ts'
import { Guests } from './guests.ts'

/** A machine with the boot guest, in the folder called `name`. */
async function around(t: TestContext, name: string): Promise<{ guests: Guests; spec: MachineSpec }> {
  const place = await RealPlace.make()
  const folders = await MachineFolders.open(join(place.directory, name))
  await mkdir(place.run)
  const guests = new Guests({
    folders,
    runDirectory: place.run,
    uefiFolders: [],
    acceleration: async () => 'tcg',
  })
  const { base } = await place.serveBase(bootDisk(MEBIBYTE))
  const spec = specOf([diskOf('virtio-blk', 4 * MEBIBYTE, base)])
  await folders.ensure(spec, never())
  t.after(async () => {
    await guests.kill(spec.id)
    await place.close()
  })
  return { guests, spec }
}

async function start(guests: Guests, spec: MachineSpec): Promise<void> {
  const log = guests.paths(spec.id).consoleLog
  const before = await readConsoleLog(log, 0)
  await guests.start(spec, never())
  await until('the guest to be up', async () =>
    (await readConsoleLog(log, before.bytes.length)).bytes.includes('up\n'),
  )
}

async function powerOff(guests: Guests, spec: MachineSpec): Promise<void> {
  await typeConsole(guests.paths(spec.id).console, Buffer.from('q'))
  await until('the guest to be off', async () => !(await guests.isRunning(spec.id)))
}

async function signal(guests: Guests, spec: MachineSpec, name: NodeJS.Signals): Promise<void> {
  const pid = await findProcess(guests.paths(spec.id).pid)
  assert.ok(pid)
  process.kill(pid, name)
  await until('QEMU to end', async () => !(await guests.isRunning(spec.id)))
}

test('only a guest that powered itself off was shut down, until it runs again or its disks change', async (t) => {
  const { guests, spec } = await around(t, 'machines')
  const { id } = spec
  assert.equal(await guests.wasShutDown(id), false)
  await start(guests, spec)
  assert.equal(await guests.wasShutDown(id), false)
  await powerOff(guests, spec)
  assert.equal(await guests.wasShutDown(id), true)
  // As `ensureStopped` does when there is nothing left to stop.
  await guests.kill(id)
  assert.equal(await guests.wasShutDown(id), true)
  await start(guests, spec)
  assert.equal(await guests.wasShutDown(id), false)
  await powerOff(guests, spec)
  await guests.forgetShutDown(id)
  assert.equal(await guests.wasShutDown(id), false)
})

test('a guest whose plug was pulled, by us or by the system, was not shut down', async (t) => {
  const { guests, spec } = await around(t, 'machines')
  const { id } = spec
  const endings = [
    () => guests.kill(id),
    () => signal(guests, spec, 'SIGKILL'),
    // Every QEMU gets it when the host is shut down, and removes its pid file as after a power-off.
    () => signal(guests, spec, 'SIGTERM'),
    () => endProcess(guests.paths(id).pid, 0),
  ]
  for (const ending of endings) {
    await start(guests, spec)
    await ending()
    assert.equal(await guests.wasShutDown(id), false)
    await guests.kill(id)
    assert.equal(await guests.wasShutDown(id), false)
  }
  await start(guests, spec)
  assert.equal(await guests.pressPower(id, 20_000, never()), true)
  assert.equal(await guests.wasShutDown(id), true)
})

test('a folder whose name QEMU would take for a pattern keeps no machine from starting', async (t) => {
  const { guests, spec } = await around(t, '100%d%s')
  await start(guests, spec)
  await powerOff(guests, spec)
  assert.equal(await guests.wasShutDown(spec.id), false)
  assert.ok(!(await readdir(guests.paths(spec.id).folder)).includes('shutdown.log'))
})
