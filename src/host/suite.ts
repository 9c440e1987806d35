import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { newId } from '../image/ids.ts'
import { capturePromises } from './capture-suite.ts'
import { walkPromises } from './capture-walk.ts'
import type { DiskExports, Host } from './contract.ts'
import {
  diskOf,
  type HostFixture,
  isFaultOf,
  MEBIBYTE,
  makeMachine,
  never,
  requestOf,
  SECTOR_BYTES,
  said,
  specOf,
  until,
  untilSaid,
} from './suite-tools.ts'
import { worthPromises } from './worth-suite.ts'

export * from './suite-tools.ts'

/** The promises of `Host`, tried on one implementation; those about guests only where `starts`. */
export function hostSuite(name: string, starts: boolean, make: () => Promise<HostFixture>): void {
  describe(`${name} keeps the contract of Host`, () => {
    let fixture: HostFixture
    let host: Host
    before(async () => {
      fixture = await make()
      host = fixture.host
      assert.equal(host.traits.starts, starts)
    })
    after(() => fixture.close())

    /** The first byte of a sector, as the export shows it. */
    async function firstByte(exports: DiskExports, disk: number, sector: number): Promise<string> {
      const exported = exports.disks[disk]
      assert.ok(exported)
      const bytes = await fixture.readExport(exported, sector * SECTOR_BYTES, 1)
      return bytes.toString('latin1')
    }

    test('a machine made twice is one machine, stopped, and listed', async () => {
      const spec = await makeMachine(fixture)
      await host.ensureMachine(spec, never())
      assert.equal(await host.power(spec.id), 'stopped')
      assert.equal((await host.list()).filter((id) => id === spec.id).length, 1)
      await host.ensureStopped(spec.id, 'power', never())
      await host.ensureGone(spec.id, never())
    })

    test('what does not exist is absent, and may go', async () => {
      const id = newId('machine')
      assert.equal(await host.power(id), 'absent')
      await assert.rejects(host.ensureStarted(id, never()), isFaultOf('absent'))
      await assert.rejects(host.ensureStopped(id, 'graceful', never()), isFaultOf('absent'))
      await assert.rejects(
        host.openExports(id, 'k1', { diskIds: [newId('disk')], since: {}, consistency: 'best' }, never()),
        isFaultOf('absent'),
      )
      await assert.rejects(host.readConsole(id, 0), isFaultOf('absent'))
      await assert.rejects(host.writeConsole(id, Buffer.from('x')), isFaultOf('absent'))
      await host.ensureGone(id, never())
      await host.closeExports(id, 'k1', 'given-up')
      await host.closeExports(id, 'k1', 'taken')
      await assert.rejects(host.outlook(id, never()), isFaultOf('absent'))
      await assert.rejects(host.replaceDisk(id, diskOf('virtio-blk', MEBIBYTE), never()), isFaultOf('absent'))
    })

    test('an aborted call leaves no machine', async () => {
      const spec = specOf([diskOf('virtio-blk', MEBIBYTE)])
      await assert.rejects(host.ensureMachine(spec, AbortSignal.abort()))
      assert.equal(await host.power(spec.id), 'absent')
    })

    test('a stopped machine shows its base, and zeroes after its end', async () => {
      const spec = await makeMachine(fixture)
      const exports = await host.openExports(spec.id, 'still', requestOf(spec), never())
      assert.equal(exports.moment, 'new')
      assert.equal(exports.pausedMs, 0)
      assert.equal(exports.frozenMs, 0)
      assert.equal(exports.consistency, 'crash')
      assert.notEqual(exports.consistencyWhy, '')
      assert.deepEqual(
        exports.disks.map((disk) => [disk.id, disk.sizeBytes]),
        spec.disks.map((disk) => [disk.id, disk.sizeBytes]),
      )
      const [system, data] = exports.disks
      assert.ok(system && data)
      const wanted = Buffer.concat([fixture.bootDisk(3 * MEBIBYTE), Buffer.alloc(MEBIBYTE)])
      assert.ok((await fixture.readExport(system, 0, 4 * MEBIBYTE)).equals(wanted))
      assert.ok((await fixture.readExport(data, 0, 2 * MEBIBYTE)).equals(Buffer.alloc(2 * MEBIBYTE)))
      await host.ensureGone(spec.id, never())
      assert.deepEqual(await fixture.leftovers(spec.id), [])
    })

    test('the same key finds the same moment, also from another process; a closed one is gone', async () => {
      const spec = await makeMachine(fixture)
      assert.equal((await host.openExports(spec.id, 'a1', requestOf(spec), never())).moment, 'new')
      assert.equal((await host.openExports(spec.id, 'a1', requestOf(spec), never())).moment, 'same')
      const other = await fixture.reopen()
      const again = await other.openExports(spec.id, 'a1', requestOf(spec), never())
      assert.equal(again.moment, 'same')
      assert.equal(await firstByte(again, 1, 0), '\0')
      await assert.rejects(other.openExports(spec.id, 'b2', requestOf(spec), never()), isFaultOf('conflict'))
      await other.closeExports(spec.id, 'b2', 'given-up')
      assert.equal((await other.openExports(spec.id, 'a1', requestOf(spec), never())).moment, 'same')
      await other.closeExports(spec.id, 'a1', 'given-up')
      await other.closeExports(spec.id, 'a1', 'given-up')
      assert.equal((await other.openExports(spec.id, 'b2', requestOf(spec), never())).moment, 'new')
      await other.closeExports(spec.id, 'b2', 'given-up')
      await other.close()
      await host.ensureGone(spec.id, never())
      assert.deepEqual(await fixture.leftovers(spec.id), [])
    })

    if (!starts)
      test('where guests never start, starting is invalid', async () => {
        const spec = await makeMachine(fixture)
        await assert.rejects(host.ensureStarted(spec.id, never()), isFaultOf('invalid'))
        await host.ensureGone(spec.id, never())
      })

    if (starts)
      test('a guest starts once, speaks, and stops', async () => {
        const { guest } = fixture
        assert.ok(guest)
        const spec = await makeMachine(fixture)
        await assert.rejects(host.writeConsole(spec.id, Buffer.from('x')), isFaultOf('conflict'))
        await host.ensureStarted(spec.id, never())
        await host.ensureStarted(spec.id, never())
        assert.equal(await host.power(spec.id), 'running')
        await untilSaid(host, spec.id, guest.banner)
        const saidBytes = (await said(host, spec.id)).length
        const nothing = { fromByte: saidBytes, bytes: Buffer.alloc(0) }
        assert.deepEqual(await host.readConsole(spec.id, saidBytes), nothing)
        await guest.fill(host, spec.id, 0, 65, 'a')
        await guest.fill(host, spec.id, 1, 66, 'b')
        await host.ensureStopped(spec.id, 'graceful', never())
        await host.ensureStopped(spec.id, 'power', never())
        assert.equal(await host.power(spec.id), 'stopped')
        const exports = await host.openExports(spec.id, 'k', requestOf(spec), never())
        assert.equal(await firstByte(exports, 0, 65), 'a')
        assert.equal(await firstByte(exports, 1, 66), 'b')
        await assert.rejects(host.ensureStarted(spec.id, never()), isFaultOf('conflict'))
        const other = await fixture.reopen()
        await assert.rejects(other.ensureStarted(spec.id, never()), isFaultOf('conflict'))
        await other.closeExports(spec.id, 'k', 'given-up')
        await other.ensureStarted(spec.id, never())
        await untilSaid(other, spec.id, guest.banner, saidBytes)
        await other.close()
        await host.ensureGone(spec.id, never())
        assert.deepEqual(await fixture.leftovers(spec.id), [])
      })

    if (starts)
      test('exports of a running guest show one moment and nothing after it', async () => {
        const { guest } = fixture
        assert.ok(guest)
        const spec = await makeMachine(fixture)
        await host.ensureStarted(spec.id, never())
        await untilSaid(host, spec.id, guest.banner)
        for (const disk of [0, 1]) await guest.fill(host, spec.id, disk, 70, 'a')
        const exports = await host.openExports(spec.id, 'live', requestOf(spec), never())
        assert.equal(exports.moment, 'new')
        assert.ok(exports.pausedMs > 0)
        for (const disk of [0, 1]) {
          await guest.fill(host, spec.id, disk, 70, 'z')
          await guest.fill(host, spec.id, disk, 71, 'z')
        }
        const other = await fixture.reopen()
        const again = await other.openExports(spec.id, 'live', requestOf(spec), never())
        assert.equal(again.moment, 'same')
        assert.equal(again.pausedMs, exports.pausedMs)
        for (const disk of [0, 1]) {
          assert.equal(await firstByte(again, disk, 70), 'a')
          assert.equal(await firstByte(again, disk, 71), '\0')
        }
        await assert.rejects(
          host.openExports(spec.id, 'second', requestOf(spec), never()),
          isFaultOf('conflict'),
        )
        await other.closeExports(spec.id, 'live', 'given-up')
        await other.closeExports(spec.id, 'live', 'given-up')
        const fresh = await other.openExports(spec.id, 'live', requestOf(spec), never())
        assert.equal(fresh.moment, 'new')
        for (const disk of [0, 1]) assert.equal(await firstByte(fresh, disk, 71), 'z')
        await other.closeExports(spec.id, 'live', 'given-up')
        assert.equal(await host.power(spec.id), 'running')
        await guest.fill(host, spec.id, 1, 72, 'y')
        await other.close()
        await host.ensureGone(spec.id, never())
        assert.deepEqual(await fixture.leftovers(spec.id), [])
      })

    if (starts)
      test('a guest whose hypervisor is killed is stopped, and a new moment is taken from its disks', async () => {
        const { guest } = fixture
        assert.ok(guest)
        const spec = await makeMachine(fixture)
        await host.ensureStarted(spec.id, never())
        await untilSaid(host, spec.id, guest.banner)
        await guest.fill(host, spec.id, 1, 80, 'a')
        assert.equal((await host.openExports(spec.id, 'k', requestOf(spec), never())).moment, 'new')
        await guest.crash(spec.id)
        await until('the machine to be stopped', async () => (await host.power(spec.id)) === 'stopped')
        const exports = await host.openExports(spec.id, 'k', requestOf(spec), never())
        assert.equal(exports.moment, 'new')
        assert.equal(exports.pausedMs, 0)
        await host.closeExports(spec.id, 'k', 'given-up')
        await host.ensureStarted(spec.id, never())
        await host.ensureGone(spec.id, never())
        assert.deepEqual(await fixture.leftovers(spec.id), [])
      })

    capturePromises(starts, () => fixture)
    worthPromises(starts, () => fixture)
    if (starts) walkPromises(() => fixture)
  })
}
