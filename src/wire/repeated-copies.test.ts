import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type AppPlace, AWAY, FAR, HOME, newAppPlace } from '../app/fixture.ts'
import { spellId } from '../image/ids.ts'
import { createUhostDoor } from './uhost/door.ts'
import { formRequest, signed } from './uhost/fixture.ts'
import { createWuyingDoor } from './wuying/door.ts'
import { CREATED_AT_MS, contentOf, type FakeKey, rpcRequest } from './wuying/fixture-requests.ts'

// Clients that repeat themselves, at the doors of the clouds over the use cases themselves.

interface Scene {
  readonly place: AppPlace
  readonly key: FakeKey
  readonly imageId: string
  uhost(parameters: Readonly<Record<string, string>>): Promise<Readonly<Record<string, unknown>>>
  wuying(action: string, parameters: Record<string, string>): Promise<Readonly<Record<string, unknown>>>
  /** Images, tasks and what is charged: how many of them there are. */
  counted(): Promise<object>
}

async function openScene(options: Parameters<typeof newAppPlace>[0] = {}): Promise<Scene> {
  const place = await newAppPlace(options)
  const { app, keyring, catalog } = place
  const { id: keyId } = await catalog.rows.selectFrom('accessKey').select('id').executeTakeFirstOrThrow()
  const secret = (await keyring.find(keyId))?.secret ?? ''
  const onBug = (error: unknown) => {
    throw error
  }
  const uhostDoor = createUhostDoor({ app, keyring, nowMs: () => place.nowMs, report: onBug })
  // These requests are of one moment, whatever the clock of the use cases says.
  const wuyingDoor = createWuyingDoor({ app, keyring, clock: () => CREATED_AT_MS, onBug })
  const key = { keyId, secret }
  return {
    place,
    key,
    imageId: await place.availableImage('golden'),
    async uhost(parameters) {
      const answer = await uhostDoor.handle(formRequest(signed(parameters, keyId, secret)))
      return JSON.parse(answer.body.toString())
    },
    wuying: async (action, parameters) =>
      contentOf(await wuyingDoor.handle(rpcRequest(action, parameters, key))),
    async counted() {
      const count = async (table: 'image' | 'task') =>
        (await catalog.rows.selectFrom(table).select('id').execute()).length
      const [project] = await app.projects.list(place.root)
      return { images: await count('image'), tasks: await count('task'), charged: project?.chargedBytes }
    },
  }
}

const copyOf = ({ place, imageId }: Scene, ...targets: readonly string[]) => ({
  Action: 'CopyCustomImage',
  Region: HOME,
  SourceImageId: spellId('image', imageId as never, 'uhost'),
  TargetProjectId: place.root.defaultProjectId,
  ...Object.fromEntries(targets.map((region, index) => [`TargetRegionList.${index}`, region])),
})

test('a copy that is refused makes nothing, however often it is sent', async (t) => {
  const scene = await openScene({ imagesPerRegionMax: 1 })
  t.after(() => scene.place.close())
  assert.equal((await scene.uhost(copyOf(scene, AWAY))).RetCode, 0)
  const before = await scene.counted()
  // The JavaScript client sends a call that fails four times, with the same bytes.
  for (const [targets, retCode] of [
    [[FAR, AWAY], 8095],
    [[FAR, HOME], 8962],
    [[FAR, 'mars'], 230],
  ] as const) {
    for (let count = 0; count < 4; count++)
      assert.equal((await scene.uhost(copyOf(scene, ...targets))).RetCode, retCode)
    assert.deepEqual(await scene.counted(), before)
  }
  // The target that had room is as free as it was.
  assert.equal((await scene.uhost(copyOf(scene, FAR))).RetCode, 0)
})

test('UHost: a batch that is asked for again while it runs is answered with the same ids', async (t) => {
  const scene = await openScene()
  t.after(() => scene.place.close())
  const wish = copyOf(scene, AWAY, FAR)
  const atOnce = await Promise.all([scene.uhost(wish), scene.uhost(wish)])
  const after = await scene.counted()
  const later = await scene.uhost(wish)
  for (const answer of [...atOnce, later]) assert.deepEqual(answer, atOnce[0])
  assert.equal((later.Infos as unknown[]).length, 2)
  assert.deepEqual(await scene.counted(), after)
  const other = await scene.uhost({ ...wish, TargetImageName: 'another' })
  assert.notDeepEqual(other.Infos, later.Infos)
})

test('WUYING: so is CopyImage, which may be cancelled and asked for anew', async (t) => {
  const scene = await openScene()
  t.after(() => scene.place.close())
  const wish = {
    RegionId: HOME,
    ImageId: spellId('image', scene.imageId as never, 'wuying'),
    DestinationRegionId: AWAY,
    DestinationImageName: 'copied',
  }
  const { ImageId: first } = await scene.wuying('CopyImage', wish)
  assert.match(String(first), /^m-/)
  assert.equal((await scene.wuying('CopyImage', wish)).ImageId, first)
  const copy = { RegionId: AWAY, ImageId: String(first) }
  assert.deepEqual(Object.keys(await scene.wuying('CancelCopyImage', copy)), ['RequestId'])
  const { Images } = await scene.wuying('DescribeImages', { RegionId: AWAY, 'ImageId.1': String(first) })
  assert.deepEqual(Images, [])
  assert.equal((await scene.wuying('CancelCopyImage', copy)).Code, 'InvalidImageId.NotFound')
  const { ImageId: second } = await scene.wuying('CopyImage', wish)
  assert.match(String(second), /^m-/)
  assert.notEqual(second, first)
})
