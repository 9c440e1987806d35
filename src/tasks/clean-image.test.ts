import assert from 'node:assert/strict'
import { afterEach, beforeEach, describe, test } from 'node:test'
import { isSignedReport } from '../cleaning/signature.ts'
import { ALL_OPERATIONS, type CleaningWish } from '../image/cleaning.ts'
import { Fault } from '../image/fault.ts'
import type { DiskId, ImageId, MachineId, TaskId } from '../image/ids.ts'
import type { CaptureInput } from './capture-image.ts'
import type { CleanInput } from './clean-image.ts'
import { DISK_BYTES, digestOf, HOME, newTaskPlace, PROJECT, type TaskPlace } from './fixture.ts'
import type { PlanInput } from './plan-capture.ts'
import { chargedBytes } from './quota.ts'

const WISH: CleaningWish = { operations: ALL_OPERATIONS, isBestEffort: false, onSecrets: 'report' }
const ENCRYPTED = new Fault('conflict', 'Disk 0, partition 2 is BitLocker: decrypt it.', {
  subject: 'volume',
  reason: 'encrypted',
})

let place: TaskPlace
let imageId: ImageId
beforeEach(async () => {
  place = await newTaskPlace()
  imageId = await place.image('made', { state: 'creating' })
})
afterEach(() => place.close())

const row = () =>
  place.catalog.rows.selectFrom('image').selectAll().where('id', '=', imageId).executeTakeFirst()

describe('an image cleaned out of one that is there', () => {
  beforeEach(async () => {
    await place.image('source')
    await place.catalog.rows
      .updateTable('image')
      .set({ reservedBytes: 8192 })
      .where('id', '=', imageId)
      .execute()
  })
  const clean = (): Promise<TaskId> => {
    const disk = { digest: digestOf('source'), diskIndex: 0, bus: 'virtio-blk', dataBytes: 0 } as const
    const about = { consistency: 'crash', parent: digestOf('source'), clean: WISH } as const
    const input: CleanInput = { imageId, disks: [disk], ...about }
    return place.begin({ kind: 'clean-image', imageId, input })
  }

  test('is written from the overlays, with the signed report, and nothing stays open', async () => {
    const id = await clean()
    const { state, output } = await place.ended(id)
    assert.equal(state, 'done')
    const [request] = place.cleaner.cleaned
    assert.deepEqual(request, {
      ...{ key: id, wish: WISH, isDryRun: false },
      disks: [{ sizeBytes: DISK_BYTES, socketPath: '', exportName: `${HOME}/${digestOf('source')}/0` }],
    })
    const [job] = place.stores.written
    const source = job?.disks[0]
    assert.deepEqual(
      [source?.cleaned?.exportName, source?.baseline],
      ['cleaned-0', { digest: digestOf('source'), diskIndex: 0, changes: 'nothing' }],
    )
    const report = job?.images[0]?.report ?? assert.fail('it has a report')
    assert.ok(isSignedReport(report))
    assert.ok(!isSignedReport({ ...report, report: { ...report.report, removedBytes: 1 } }))
    const made = await row()
    const summary = {
      ...{ removedFileCount: 3, removedBytes: 5000, scrubbedBytes: 66048 },
      ...{ leftVolumeCount: 0, secretCount: 0, isPartial: false },
    }
    assert.deepEqual(
      [made?.state, made?.parent, made?.reservedBytes, JSON.parse(made?.cleaning ?? '')],
      ['available', digestOf('source'), 0, summary],
    )
    assert.deepEqual(output.cleaning, summary)
    assert.equal(place.cleaner.open.size, 0)
    assert.deepEqual(place.stores.holders(HOME), [imageId])
  })

  test("is read whole where its source's chunks are another project's", async () => {
    place.stores.domains.set(digestOf('source'), 'org-other')
    await place.ended(await clean())
    assert.equal(place.stores.written[0]?.disks[0]?.baseline, undefined)
  })

  test('that cannot be cleaned fails with the reason, and nothing is left of it', async () => {
    const before = await chargedBytes(place.catalog.rows, PROJECT)
    place.cleaner.gate = async () => {
      throw ENCRYPTED
    }
    const { state, reason } = await place.ended(await clean())
    assert.deepEqual([state, reason], ['failed', ENCRYPTED.message])
    const made = await row()
    assert.deepEqual([made?.state, made?.reason, made?.cleaning], ['failed', ENCRYPTED.message, null])
    assert.deepEqual([place.cleaner.open.size, place.stores.written.length], [0, 0])
    assert.equal(await chargedBytes(place.catalog.rows, PROJECT), before - 8192)
  })

  test('is cleaned from the start by the next process when one ends while it is written', async () => {
    const reached = Promise.withResolvers<void>()
    const opened = Promise.withResolvers<void>()
    place.stores.gates.set('write', () => {
      reached.resolve()
      return opened.promise
    })
    const id = await clean()
    await reached.promise
    const restarted = place.restart()
    place.stores.gates.clear()
    opened.resolve()
    await restarted
    const { state } = await place.ended(id)
    assert.deepEqual([state, place.cleaner.cleaned.length, place.cleaner.open.size], ['done', 2, 0])
  })

  test('keeps the source in the store while it is read, though it was deleted', async () => {
    const reached = Promise.withResolvers<void>()
    const go = Promise.withResolvers<void>()
    place.cleaner.gate = () => {
      reached.resolve()
      return go.promise
    }
    const id = await clean()
    await reached.promise
    const input = { holder: 'x', regionId: HOME, digest: digestOf('source') }
    const release = await place.begin({ kind: 'release-image', input })
    const step = () =>
      place.catalog.rows.selectFrom('task').select('step').where('id', '=', release).executeTakeFirst()
    while ((await step())?.step !== 'wait') await new Promise(setImmediate)
    go.resolve()
    const [made, released] = [await place.ended(id), await place.ended(release)]
    assert.deepEqual([made.state, released.state], ['done', 'done'])
  })

  test('as a plan makes nothing, and a refusal is part of the answer', async () => {
    const disk = { digest: digestOf('source'), diskIndex: 0, bus: 'virtio-blk', dataBytes: 0 } as const
    const input = { disks: [disk], clean: WISH }
    const plan = async () => (await place.ended(await place.begin({ kind: 'plan-clean', input }))).output
    const told = await plan()
    assert.deepEqual([told.blockers, (told.cleaning as { isDryRun: boolean }).isDryRun], [[], true])
    place.cleaner.gate = async () => {
      throw ENCRYPTED
    }
    assert.deepEqual(await plan(), { blockers: [ENCRYPTED.message], cleaning: null })
    assert.deepEqual([place.stores.written.length, place.cleaner.open.size], [0, 0])
  })
})

describe('a capture that is cleaned', () => {
  let machineId: MachineId
  let diskId: DiskId
  beforeEach(async () => {
    machineId = await place.machine('m')
    const { disks } = await place.catalog.rows.selectFrom('machine').select('disks').executeTakeFirstOrThrow()
    diskId = JSON.parse(disks)[0].id
  })
  const closed: string[] = []
  const capture = (): Promise<TaskId> => {
    closed.length = 0
    place.parts.host.closeExports = async (_id, _key, outcome) => void closed.push(outcome)
    const outputs = [{ is: 'image', id: imageId, diskIds: [diskId] }] as const
    const input: CaptureInput = { machineId, wanted: 'best', outputs, clean: WISH }
    return place.begin({ kind: 'capture-image', imageId, machineId, input })
  }

  test('is no baseline for the next one, and closes what it opened', async () => {
    const { state, output } = await place.ended(await capture())
    assert.equal(state, 'done')
    assert.equal((output.cleaning as { removedFileCount: number }).removedFileCount, 3)
    assert.equal(place.stores.written[0]?.disks[0]?.cleaned?.exportName, 'cleaned-0')
    assert.deepEqual(closed, ['given-up'])
    assert.deepEqual(await place.catalog.rows.selectFrom('baseline').selectAll().execute(), [])
    assert.equal(place.cleaner.open.size, 0)
  })

  test('fails when it cannot be cleaned: nothing is written, no export stays', async () => {
    place.cleaner.gate = async () => {
      throw ENCRYPTED
    }
    const { state, reason } = await place.ended(await capture())
    assert.deepEqual([state, reason], ['failed', ENCRYPTED.message])
    assert.deepEqual([place.stores.written, closed], [[], ['given-up']])
    assert.equal(place.cleaner.open.size, 0)
  })

  test('takes its turn before the disks are opened, and gives it back', async () => {
    const { host } = place.parts
    const open = host.openExports
    const turns: boolean[] = []
    host.openExports = async (...given) => {
      turns.push(place.cleaner.entered.has(given[1]))
      return await open(...given)
    }
    await place.ended(await capture())
    await plan()
    assert.deepEqual([[...new Set(turns)], place.cleaner.entered.size], [[true], 0])
    host.openExports = async () => {
      throw new Fault('conflict', 'It is being captured.', { subject: 'machine' })
    }
    assert.deepEqual((await plan()).blockers, ['It is being captured.'])
    assert.equal(place.cleaner.entered.size, 0)
  })

  test('lets go of the machine though what was cleaned does not close yet', async () => {
    for (const begin of [capture, beginPlan]) {
      const { close } = place.cleaner
      place.cleaner.gate = async () => {
        // Once: the second undo is to succeed.
        place.cleaner.close = async () => {
          place.cleaner.close = close
          throw new Fault('unavailable', 'A process does not end.', { subject: 'host' })
        }
        throw new Fault('unavailable', 'Its source went away.', { subject: 'disk' })
      }
      closed.length = 0
      const { state } = await place.ended(await begin())
      assert.deepEqual([state, closed], ['failed', ['given-up', 'given-up']])
      assert.equal(place.cleaner.entered.size, 0)
    }
  })

  test('closes the overlays before the exports under them when it fails later', async () => {
    const order: string[] = []
    place.stores.gates.set('write', async () => {
      place.parts.host.closeExports = async () => void order.push(`exports, ${place.cleaner.open.size} open`)
      throw new Fault('full', 'The disk is full.')
    })
    await place.ended(await capture())
    assert.deepEqual(order, ['exports, 0 open'])
  })

  const beginPlan = (): Promise<TaskId> => {
    const about = { machineId, diskIds: [diskId], wanted: 'best', blockers: [], tellsSpace: false } as const
    const input: PlanInput = { ...about, clean: WISH }
    return place.begin({ kind: 'plan-capture', machineId, input })
  }
  const plan = async () => {
    const { output } = await place.ended(await beginPlan())
    return output as { blockers: string[]; cleaning: { isDryRun: boolean } | null }
  }

  test('is planned with its report, and a refusal is a blocker', async () => {
    const told = await plan()
    assert.deepEqual([told.blockers, told.cleaning?.isDryRun], [[], true])
    place.cleaner.gate = async () => {
      throw ENCRYPTED
    }
    const refused = await plan()
    assert.deepEqual([refused.blockers, refused.cleaning], [[ENCRYPTED.message], null])
  })

  test('begins again while its source is away', async () => {
    const errors = ['EIO', undefined]
    place.cleaner.gate = async () => {
      if (errors.length === 0) return
      const reason = errors.shift()
      throw new Fault('unavailable', 'Away.', { subject: 'disk', ...(reason !== undefined && { reason }) })
    }
    assert.deepEqual((await plan()).blockers, [])
    assert.equal(place.cleaner.cleaned.length, 3)
  })
})
