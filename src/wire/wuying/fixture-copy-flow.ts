import assert from 'node:assert/strict'
import { Fault } from '../../image/fault.ts'
import type { ImageId } from '../../image/ids.ts'
import type { Bench } from './fixture.ts'
import { type Answer, NAMES } from './fixture-clients.ts'
import { fakeCore, fakeImage } from './fixture-things.ts'

/** A client's own way to ask; it rejects with the `code` of a refusal. */
type Call = (action: string, given: Record<string, string>) => Promise<Answer>

/** A copy to another region that is cancelled there, with every parameter there is, and the refusals. */
export async function copyFlow(bench: Bench, call: Call): Promise<void> {
  const { app } = bench
  const source = fakeImage('own')
  app.imageRows.splice(0, Number.POSITIVE_INFINITY, source, fakeImage('base', { kind: 'base' }))
  const given = {
    RegionId: 'cn-hangzhou',
    ImageId: `m-${source.id}`,
    DestinationRegionId: 'cn-shanghai',
    DestinationImageName: NAMES.ImageName,
  }
  const made = await call('CopyImage', { ...given, DestinationDescription: NAMES.Description })
  assert.match(String(made.ImageId), /^m-[0-9a-z]{17}$/)
  assert.notEqual(made.ImageId, given.ImageId)
  assert.match(String(made.RequestId), /^[0-9A-F-]{36}$/)
  assert.deepEqual(app.calls.at(-1)?.input, {
    regionId: 'cn-hangzhou',
    imageId: source.id,
    targetRegionIds: ['cn-shanghai'],
    name: NAMES.ImageName,
    description: NAMES.Description,
  })

  const there = { RegionId: 'cn-shanghai', ImageId: String(made.ImageId) }
  const look = async () => {
    const { Images } = await call('DescribeImages', {
      ...{ RegionId: there.RegionId, 'ImageId.1': there.ImageId },
    })
    return (Images as Answer[]).map(({ Status, Progress }) => [Status, Progress])
  }
  assert.deepEqual(await look(), [['Creating', '0%']], 'listed at once')
  // Not where it came from, and not the source.
  for (const [wrong, code] of [
    [{ RegionId: 'cn-hangzhou' }, 'InvalidImageId.NotFound'],
    [{ RegionId: 'cn-hangzhou', ImageId: given.ImageId }, 'ImageCreatedNotFromCopy'],
    [{ ImageId: 'm-none' }, 'InvalidImageId.NotFound'],
    [{ RegionId: 'mars' }, 'InvalidRegionId.NotFound'],
  ] as const)
    await assert.rejects(call('CancelCopyImage', { ...there, ...wrong }), { code })
  await assert.rejects(call('CancelCopyImage', { RegionId: there.RegionId }), { code: 'MissingImageId' })
  assert.deepEqual(await look(), [['Creating', '0%']])

  const cancelled = await call('CancelCopyImage', there)
  assert.deepEqual(Object.keys(cancelled), ['RequestId'])
  assert.deepEqual(app.calls.at(-1)?.input, { regionId: 'cn-shanghai', imageId: there.ImageId.slice(2) })
  assert.deepEqual(await look(), [], 'off the list at once')
  await assert.rejects(call('CancelCopyImage', there), { code: 'InvalidImageId.NotFound' })

  const second = await call('CopyImage', given)
  const ready = app.imageRows.findIndex(({ id }) => `m-${id}` === second.ImageId)
  app.imageRows.splice(ready, 1, fakeImage('arrived', { regionId: source.regionId, origin: 'copy' }))
  const arrived = { RegionId: 'cn-hangzhou', ImageId: `m-${fakeCore<ImageId>('arrived')}` }
  await assert.rejects(call('CancelCopyImage', arrived), { code: 'IncorrectImageStatus' })

  for (const [change, code] of [
    [{ DestinationRegionId: 'cn-hangzhou' }, 'InvalidDestinationRegionId.Same'],
    [{ DestinationRegionId: 'mars' }, 'InvalidDestinationRegionId.NotFound'],
    [{ DestinationImageName: '1st' }, 'InvalidDestinationImageName.Malformed'],
    [{ DestinationDescription: 'http://x' }, 'InvalidDestinationDescription.Malformed'],
    [{ ImageId: 'm-none' }, 'InvalidImageId.NotFound'],
    [{ ImageId: `m-${fakeCore<ImageId>('base')}` }, 'SystemImageNotSupported'],
  ] as const)
    await assert.rejects(call('CopyImage', { ...given, ...change }), { code })
  for (const name of ['ImageId', 'DestinationRegionId', 'DestinationImageName']) {
    const rest = Object.fromEntries(Object.entries(given).filter(([key]) => key !== name))
    await assert.rejects(call('CopyImage', rest), { code: `Missing${name}` })
  }
  for (const [fault, code] of [
    [new Fault('full', 'm', { subject: 'image' }), 'QuotaExceeded.Image'],
    [new Fault('full', 'm', { subject: 'project', reason: 'quota' }), 'QuotaExceeded.Storage'],
    [new Fault('denied', 'm', { subject: 'policy' }), 'NoPermission'],
  ] as const) {
    app.failure = fault
    await assert.rejects(call('CopyImage', given), { code })
    await assert.rejects(call('CancelCopyImage', there), { code })
    app.failure = undefined
  }
  assert.deepEqual(bench.bugs, [])
}
