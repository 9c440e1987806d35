import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isEnough } from '../image/consistency.ts'
import { type Fault, isFault } from '../image/fault.ts'
import { CaptureTools, saysWhyNot, sinceAll } from './capture-tools.ts'
import {
  diskOf,
  type HostFixture,
  isFaultOf,
  MEBIBYTE,
  makeMachine,
  never,
  requestOf,
} from './suite-tools.ts'

const isCapturing = (error: unknown) => isFault(error, 'conflict') && error.reason === 'capturing'
const isTooLittle = (error: unknown): error is Fault =>
  isFault(error, 'conflict') && error.reason === 'consistency' && error.subject === 'machine'

/** What is promised of disks as they are: what they are worth, and that they are replaced whole. */
export function worthPromises(starts: boolean, fixtureOf: () => HostFixture): void {
  const tools = new CaptureTools(fixtureOf)

  test('what the disks are worth is told before, and a level that cannot be had leaves nothing', async () => {
    const { host } = tools.fixture
    const spec = await makeMachine(tools.fixture)
    const check = async (power: string) => {
      const outlook = await host.outlook(spec.id, never())
      assert.equal(outlook.power, power)
      assert.equal(outlook.consistency === 'application', outlook.consistencyWhy === '')
      for (const consistency of ['filesystem', 'application'] as const) {
        const request = requestOf(spec, { consistency })
        const opening = host.openExports(spec.id, consistency, request, never())
        if (isEnough(outlook.consistency, consistency)) {
          assert.equal((await opening).consistency, outlook.consistency)
          await host.closeExports(spec.id, consistency, 'given-up')
        } else {
          await assert.rejects(opening, (error) => isTooLittle(error) && error.message.length > 0)
        }
      }
      // No key is open any more.
      const exports = await host.openExports(spec.id, 'k', requestOf(spec), never())
      assert.equal(exports.consistency, outlook.consistency)
      assert.equal(exports.consistencyWhy, outlook.consistencyWhy)
      await host.closeExports(spec.id, 'k', 'given-up')
      return outlook.consistency
    }
    assert.equal(await check('stopped'), 'crash')
    if (starts) {
      await tools.start(host, spec)
      // No guest of this suite has an agent.
      assert.equal(await check('running'), 'crash')
      const asked = requestOf(spec, { consistency: 'crash' })
      assert.equal((await host.openExports(spec.id, 'k', asked, never())).frozenMs, 0)
      await host.closeExports(spec.id, 'k', 'given-up')
      await host.ensureStopped(spec.id, 'graceful', never())
      assert.equal(await check('stopped'), 'application')
      await tools.start(host, spec)
      await host.ensureStopped(spec.id, 'power', never())
      assert.equal(await check('stopped'), 'crash')
    }
    await host.ensureGone(spec.id, never())
    assert.deepEqual(await tools.fixture.leftovers(spec.id), [])
  })

  test('a disk is given other content in one step, which a capture or a guest forbids', async () => {
    const { host, bootDisk } = tools.fixture
    const spec = await makeMachine(tools.fixture)
    const [system, data] = spec.disks
    assert.ok(system && data)
    const base = await tools.fixture.serveBase(Buffer.alloc(MEBIBYTE, 'new'))
    const next = { ...data, base }
    await host.openExports(spec.id, 'k1', requestOf(spec), never())
    await assert.rejects(host.replaceDisk(spec.id, next, never()), isCapturing)
    await host.closeExports(spec.id, 'k1', 'taken')
    const unknown = diskOf('virtio-blk', MEBIBYTE)
    await assert.rejects(host.replaceDisk(spec.id, unknown, never()), isFaultOf('absent'))
    if (starts) {
      await tools.start(host, spec)
      await tools.fill(host, spec, 1, 90, 'o')
      await assert.rejects(host.replaceDisk(spec.id, next, never()), isFaultOf('conflict'))
      await host.ensureStopped(spec.id, 'graceful', never())
    }
    await host.replaceDisk(spec.id, next, never())
    await host.replaceDisk(spec.id, next, never())
    const other = await tools.fixture.reopen()
    const outlook = await other.outlook(spec.id, never())
    assert.equal(outlook.consistency, 'crash')
    assert.notEqual(outlook.consistencyWhy, '')
    const request = requestOf(spec, { since: sinceAll(spec, 'k1') })
    const exports = await other.openExports(spec.id, 'k2', request, never())
    const [systemNow, dataNow] = exports.disks
    assert.ok(systemNow && dataNow)
    saysWhyNot(dataNow)
    const wanted = Buffer.concat([Buffer.alloc(MEBIBYTE, 'new'), Buffer.alloc(MEBIBYTE)])
    assert.ok((await tools.contentOf(dataNow)).equals(wanted))
    const systemContent = Buffer.concat([bootDisk(3 * MEBIBYTE), Buffer.alloc(MEBIBYTE)])
    assert.ok((await tools.contentOf(systemNow)).equals(systemContent))
    if (starts) {
      assert.equal(await tools.changedBytes(systemNow, systemContent), 0)
      assert.ok(dataNow.own)
      assert.equal(await tools.differingBytes(dataNow, dataNow.own, wanted), 0)
    }
    await other.closeExports(spec.id, 'k2', 'taken')
    // Zeroes in place of the content, and the other disk too.
    await other.replaceDisk(spec.id, data, never())
    await other.replaceDisk(spec.id, system, never())
    const empty = await other.openExports(spec.id, 'k3', requestOf(spec), never())
    const contents = await tools.contentsOf(empty)
    assert.ok(contents[0]?.equals(systemContent))
    assert.ok(contents[1]?.equals(Buffer.alloc(data.sizeBytes)))
    await other.closeExports(spec.id, 'k3', 'taken')
    if (starts) {
      await tools.start(other, spec)
      await tools.fill(other, spec, 1, 91, 'p')
    }
    await other.close()
    await host.ensureGone(spec.id, never())
    assert.deepEqual(await tools.fixture.leftovers(spec.id), [])
  })
}
