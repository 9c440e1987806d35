import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { WireRequest } from '../gateway-contract.ts'
import { parseJson } from '../strict-json.ts'
import {
  formRequest,
  IMAGE_ID,
  jsonRequest,
  PRIVATE_KEY,
  PROJECT_ID,
  PUBLIC_KEY,
  region,
  signed,
  testDoor,
  wireRequest,
} from './fixture.ts'
import { signText, textToSign } from './signature.ts'

const COPY = {
  Action: 'CopyCustomImage',
  Region: 'cn-bj2',
  ProjectId: PROJECT_ID,
  SourceImageId: IMAGE_ID,
  TargetProjectId: PROJECT_ID,
  TargetImageName: '镜像-1',
}
const FLAT = { ...COPY, 'TargetRegionList.0': 'hk', 'TargetRegionList.1': 'cn-sh2' }
const NESTED = { ...COPY, TargetRegionList: ['hk', 'cn-sh2'] }

/** A JSON body signed as the clients sign it: lists and objects as what they hold. */
function signedJson(parameters: object): string {
  const node = parseJson(JSON.stringify({ ...parameters, PublicKey: PUBLIC_KEY }))
  assert.equal(node.is, 'object')
  const Signature = signText(
    textToSign(node.is === 'object' ? node.members : new Map(), PRIVATE_KEY, 'plain'),
  )
  return JSON.stringify({ ...parameters, PublicKey: PUBLIC_KEY, Signature })
}

const shapes: Readonly<Record<string, () => WireRequest>> = {
  'GET with a query': () =>
    wireRequest({ method: 'GET', url: `/?${new URLSearchParams(signed(FLAT)).toString()}` }),
  'POST with a form': () => formRequest(signed(FLAT)),
  'flat JSON': () => jsonRequest(signedJson(FLAT)),
  'nested JSON': () => jsonRequest(signedJson(NESTED)),
}

for (const [name, request] of Object.entries(shapes)) {
  test(`a batch as ${name}`, async () => {
    const { door, calls } = testDoor()
    const answer = await door.handle(request())
    assert.deepEqual(JSON.parse(answer.body.toString()), {
      RetCode: 0,
      Action: 'CopyCustomImageResponse',
      Infos: ['hk', 'cn-sh2'].map((TargetRegion, index) => ({
        TaskId: `utask-t000000000000000${index}`,
        TargetImageId: `uimage-c000000000000000${index}`,
        TargetRegion,
      })),
    })
    assert.deepEqual(calls, [
      {
        useCase: 'images.copy',
        input: {
          regionId: 'cn-bj2',
          projectId: PROJECT_ID,
          imageId: IMAGE_ID.slice('uimage-'.length),
          targetProjectId: PROJECT_ID,
          targetRegionIds: ['hk', 'cn-sh2'],
          name: '镜像-1',
          description: undefined,
          tag: undefined,
        },
      },
    ])
  })
}

test('a batch of a hundred regions, in the order asked for; one more is refused', async () => {
  const names = Array.from({ length: 101 }, (_, index) => `r-${index}`)
  const regions = ['cn-bj2', ...names].map((id) => region(id, id, [`${id}-01`]))
  const { door, calls } = testDoor({ regions })
  const ask = async (count: number) => {
    const body = signedJson({ ...COPY, TargetRegionList: names.slice(0, count) })
    return JSON.parse((await door.handle(jsonRequest(body))).body.toString())
  }
  const { RetCode, Infos } = await ask(100)
  assert.equal(RetCode, 0)
  assert.deepEqual(
    Infos.map((info: { TargetRegion: string }) => info.TargetRegion),
    names.slice(0, 100),
  )
  assert.equal(new Set(Infos.map((info: { TargetImageId: string }) => info.TargetImageId)).size, 100)
  assert.equal((await ask(101)).RetCode, 240)
  assert.equal(calls.length, 1)
})
