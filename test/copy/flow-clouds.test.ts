import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { type TestContext, test } from 'node:test'
import RpcClient from '@alicloud/pop-core'
import type { Call, KeyPair } from '../../demo/clients.ts'
import { signedUhost } from '../e2e/wire.ts'
import {
  api,
  bringIn,
  exportedSha256,
  type FlowPlace,
  HOME,
  MIB,
  newDisk,
  newFlowPlace,
  newProject,
  SLOWEST,
  sha256,
  until,
} from './flow-place.ts'

const FAR = 'slow'
const slowly = { regions: { [FAR]: { copyBytesPerSecond: SLOWEST } } }

interface WuyingImage {
  readonly ImageId: string
  readonly Status: string
  readonly Progress: string
  readonly Name: string
}

const perCent = ({ Progress }: WuyingImage): number => {
  assert.match(Progress, /^\d{1,3}%$/)
  return Number.parseInt(Progress, 10)
}

/** A copy that is cancelled, and one that comes well, as a client of WUYING sees them. */
async function wuyingFlow(call: Call, sourceId: string, word: string): Promise<string> {
  const find = async (RegionId: string, ImageId: string) => {
    const answer = await call('DescribeImages', { RegionId, 'ImageId.1': ImageId })
    return (answer.Images as WuyingImage[]).at(0)
  }
  const wish = { RegionId: HOME, ImageId: sourceId, DestinationImageName: `copy_of-${word}` }
  const begin = async (more: object) => String((await call('CopyImage', { ...wish, ...more })).ImageId)

  const cancelled = await begin({ DestinationRegionId: FAR })
  assert.match(cancelled, /^m-[0-9a-z]{17}$/)
  assert.notEqual(cancelled, sourceId)
  const listed = await find(FAR, cancelled)
  assert(listed !== undefined, 'it is listed at once')
  assert.deepEqual([listed.Status, listed.Name], ['Creating', wish.DestinationImageName])
  assert.ok(perCent(listed) < 100)
  assert.equal(await begin({ DestinationRegionId: FAR }), cancelled, 'the same request, the same image')
  await assert.rejects(call('CancelCopyImage', { RegionId: HOME, ImageId: cancelled }), {
    code: 'InvalidImageId.NotFound',
  })
  await assert.rejects(call('CancelCopyImage', { RegionId: HOME, ImageId: sourceId }), {
    code: 'ImageCreatedNotFromCopy',
  })
  const ended = await call('CancelCopyImage', { RegionId: FAR, ImageId: cancelled })
  assert.match(String(ended.RequestId), /^[0-9A-F-]{36}$/)
  assert.equal(await find(FAR, cancelled), undefined, 'it is off the list at once')
  await assert.rejects(call('CancelCopyImage', { RegionId: FAR, ImageId: cancelled }), {
    code: 'InvalidImageId.NotFound',
  })

  const made = await begin({ DestinationRegionId: 'hk', DestinationDescription: `for ${word}` })
  const seen: number[] = []
  await until(`${made} Available`, async () => {
    const image = await find('hk', made)
    assert(image !== undefined && image.Status !== 'CreateFailed')
    seen.push(perCent(image))
    assert.equal(image.Status === 'Available', image.Progress === '100%')
    return image.Status === 'Available' || undefined
  })
  assert.deepEqual(
    seen,
    seen.toSorted((a, b) => a - b),
  )
  await assert.rejects(call('CancelCopyImage', { RegionId: 'hk', ImageId: made }), {
    code: 'IncorrectImageStatus',
  })
  await assert.rejects(begin({ DestinationRegionId: HOME }), { code: 'InvalidDestinationRegionId.Same' })
  await assert.rejects(begin({ DestinationRegionId: 'mars' }), {
    code: 'InvalidDestinationRegionId.NotFound',
  })
  return made
}

test('WUYING through the official clients: listed at once, cancelled, made', async (t: TestContext) => {
  const place = await newFlowPlace(t, slowly)
  const disk = newDisk(2 * MIB)
  const source = await bringIn(place, 'source', disk)
  const { key, endpoint, wuying } = place.server
  const options = { ...key, endpoint: endpoint.origin, apiVersion: '2020-09-30' }
  const pop =
    (method: 'GET' | 'POST'): Call =>
    (action, parameters) =>
      new RpcClient(options).request(action, parameters, { method })
  const id = source.id.replace(/^img-/, 'm-')
  const made = [
    await wuyingFlow(wuying, id, 'openapi'),
    await wuyingFlow(pop('GET'), id, 'pop-get'),
    await wuyingFlow(pop('POST'), id, 'pop-post'),
  ]
  for (const one of made) {
    assert.equal(await exportedSha256(place, 'hk', one.replace(/^m-/, 'img-')), sha256(disk))
  }
})

interface Info {
  readonly TargetRegion: string
  readonly TargetImageId: string
  readonly TaskId: string
}

type Wish = Readonly<Record<string, string | readonly string[]>>

/** `name` and value, one behind the other; of a list what it holds. Source: the cloud's signature page. */
function signedJson({ accessKeyId, accessKeySecret }: KeyPair, wish: Wish): string {
  const all: Wish = { ...wish, PublicKey: accessKeyId }
  const text = Object.keys(all)
    .sort()
    .map((name) => name + [all[name]].flat().join(''))
    .join('')
  const Signature = createHash('sha1')
    .update(text + accessKeySecret)
    .digest('hex')
  return JSON.stringify({ ...all, Signature })
}

/** `TargetRegionList: [a]` → `TargetRegionList.0`. */
const flat = (wish: Wish): Record<string, string> =>
  Object.fromEntries(
    Object.entries(wish).flatMap(([name, value]) =>
      typeof value === 'string' ? [[name, value]] : value.map((one, i) => [`${name}.${i}`, one]),
    ),
  )

/** The four ways in which clients of UHost put a request. */
function shapesOf({ server }: FlowPlace): Readonly<Record<string, (wish: Wish) => Promise<Response>>> {
  const { endpoint, key } = server
  const plain = (method: 'GET' | 'POST') => (wish: Wish) => {
    const { Action = '', ...rest } = flat(wish)
    const { url, headers, body } = signedUhost(key, Action, rest, { method })
    const address = new URL(url, endpoint)
    return fetch(address, method === 'GET' ? { headers } : { method, headers, body: new Uint8Array(body) })
  }
  const json = (body: string) =>
    fetch(endpoint, { method: 'POST', headers: { 'content-type': 'application/json' }, body })
  return {
    'a query': plain('GET'),
    'a form': plain('POST'),
    'flat JSON': (wish) => json(signedJson(key, flat(wish))),
    'nested JSON': (wish) => json(signedJson(key, wish)),
  }
}

async function defaultProject(place: FlowPlace): Promise<string> {
  const { ProjectSet } = (await place.server.uhost('GetProjectList', {})) as {
    ProjectSet: { ProjectId: string; IsDefault: boolean }[]
  }
  return ProjectSet.find(({ IsDefault }) => IsDefault)?.ProjectId ?? ''
}

type Where = Readonly<{ Region: string; ProjectId: string; ImageId: string }>

const progressOf = async ({ server }: FlowPlace, where: Where): Promise<number> => {
  const { ProgressInfo } = await server.uhost('GetImageCopyProgress', where)
  assert.match(String(ProgressInfo), /^\d{1,3}\.\d\d$/)
  return Number.parseFloat(String(ProgressInfo))
}

const statesOf = async ({ server }: FlowPlace, where: Where): Promise<readonly string[]> => {
  const answer = await server.uhost('DescribeImage', { ...where, Limit: 50 })
  return (answer.ImageSet as { State: string }[]).map(({ State }) => State)
}

test('UHost: a batch in every shape of a request, the progress as the SDKs read it, repeats and refusals', async (t: TestContext) => {
  const place = await newFlowPlace(t, slowly)
  const disk = newDisk(2 * MIB)
  const source = await bringIn(place, 'source', disk)
  const base = await bringIn(place, 'base', newDisk(MIB), { kind: 'base' })
  const uhostId = (id: string) => id.replace(/^img-/, 'uimage-')
  const ProjectId = await defaultProject(place)
  const wish = {
    ...{ Action: 'CopyCustomImage', Region: HOME, ProjectId, TargetProjectId: ProjectId },
    SourceImageId: uhostId(source.id),
  }
  const seen = new Set<string>()
  for (const [name, send] of Object.entries(shapesOf(place))) {
    const batch = { ...wish, TargetImageName: `as-${name.replace(' ', '-')}`, TargetRegionList: [FAR, 'hk'] }
    const ask = async () => {
      const answer = (await (await send(batch)).json()) as {
        RetCode: number
        Message?: string
        Infos: Info[]
      }
      assert.equal(answer.RetCode, 0, `${name}: ${answer.Message}`)
      return answer.Infos
    }
    const infos = await ask()
    assert.deepEqual(
      infos.map(({ TargetRegion }) => TargetRegion),
      [FAR, 'hk'],
    )
    assert.deepEqual(await ask(), infos, 'the same request, the same answer')
    const [far, near] = infos.map(({ TargetRegion, TargetImageId }) => {
      seen.add(TargetImageId)
      return { Region: TargetRegion, ProjectId, ImageId: TargetImageId }
    })
    assert(far !== undefined && near !== undefined)
    await until(`${near.ImageId} at 100`, async () => (await progressOf(place, near)) === 100 || undefined)
    assert.deepEqual(await statesOf(place, near), ['Available'])
    assert.ok((await progressOf(place, far)) < 100)
    assert.deepEqual(await statesOf(place, far), ['Copying'])
    // A copy of what is not there yet.
    await assert.rejects(
      place.server.uhost('CopyCustomImage', {
        ...far,
        SourceImageId: far.ImageId,
        TargetProjectId: ProjectId,
        TargetRegion: 'hk',
      }),
      { retCode: 8961 },
    )
    await place.server.uhost('TerminateCustomImage', far)
    assert.deepEqual(await statesOf(place, far), [])
  }
  assert.equal(seen.size, 8)

  const { Action: _, ...rest } = wish
  const refused = (more: object, retCode: number) =>
    assert.rejects(place.server.uhost('CopyCustomImage', { ...rest, TargetRegion: 'hk', ...more }), {
      retCode,
    })
  await refused({ SourceImageId: uhostId(base.id) }, 8956)
  await refused({ SourceImageId: 'uimage-nobody' }, 8956)
  await refused({ TargetRegion: HOME }, 8962)
  await refused({ TargetRegion: undefined, TargetRegionList: ['hk', HOME] }, 8962)
  await refused({ TargetRegionList: ['hk'] }, 230)
  const other = await newProject(place, 'other')
  await api(place, 'PUT', `/v1/projects/${other}/quota`, { body: { quotaBytes: MIB } })
  await refused({ TargetProjectId: other }, 8095)
  const there = { Region: HOME, ProjectId, ImageId: uhostId(source.id) }
  await assert.rejects(place.server.uhost('GetImageCopyProgress', there), { retCode: 8971 })
})

test('UHost: the single form as Packer and the command line of the cloud use it', async (t: TestContext) => {
  const place = await newFlowPlace(t)
  const disk = newDisk(2 * MIB)
  const source = await bringIn(place, 'source', disk)
  const ProjectId = await defaultProject(place)
  const other = await newProject(place, 'other')
  const SourceImageId = source.id.replace(/^img-/, 'uimage-')
  const { server } = place
  for (const [TargetRegion, TargetProjectId, more] of [
    // Packer leaves the name out; the command line sends Zone.
    ['hk', ProjectId, {}],
    [HOME, other, { Zone: `${HOME}-01`, TargetImageName: 'by-hand' }],
  ] as const) {
    const wish = { Region: HOME, ProjectId, SourceImageId, TargetProjectId, TargetRegion, ...more }
    const { TargetImageId, TaskId, Infos } = await server.uhost('CopyCustomImage', wish)
    assert.equal(Infos, undefined)
    assert.match(String(TaskId), /^utask-/)
    const where = { Region: TargetRegion, ProjectId: TargetProjectId, ImageId: String(TargetImageId) }
    await until(`${TargetImageId} Available`, async () => {
      const states = await statesOf(place, where)
      assert.ok(
        states.every((state) => state === 'Copying' || state === 'Available'),
        String(states),
      )
      return states[0] === 'Available' || undefined
    })
    assert.equal(await progressOf(place, where), 100)
    const image = where.ImageId.replace(/^uimage-/, 'img-')
    assert.equal(await exportedSha256(place, TargetRegion, image, TargetProjectId), sha256(disk))
  }
  // The source goes, its copies stay: the last steps of the SDKs' own scenario.
  await server.uhost('TerminateCustomImage', { Region: HOME, ProjectId, ImageId: SourceImageId })
})
