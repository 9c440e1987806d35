import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { Fault } from '../../image/fault.ts'
import type { ImageId, TaskId } from '../../image/ids.ts'
import type { Image } from '../../image/image.ts'
import { image, NEEDED, PROJECT_ID, testDoor, wireRequest } from './fixture.ts'

const GIVEN = { Action: 'ImportCustomImage', ...NEEDED.ImportCustomImage }

async function inputOf(change: Record<string, string> = {}): Promise<Record<string, unknown>> {
  const { ask, calls } = testDoor()
  const body = await ask({ ...GIVEN, ...change })
  assert.equal(body.RetCode, 0, body.Message)
  return calls[0]?.input as Record<string, unknown>
}

test('what an official client sends reaches the inside, spaces in its address and all', async () => {
  const { vectors } = JSON.parse(
    readFileSync(new URL('../../../test/vectors/uhost.json', import.meta.url), 'utf8'),
  ) as { vectors: readonly { id: string; body: string }[] }
  const recorded = vectors.find(({ id }) => id === 'python3/import_image')
  assert.ok(recorded)
  const { door, calls } = testDoor()
  const answer = await door.handle(
    wireRequest({
      headers: { 'content-type': 'application/x-www-form-urlencoded' },
      body: Buffer.from(recorded.body),
    }),
  )
  assert.deepEqual(JSON.parse(answer.body.toString()), {
    RetCode: 0,
    Action: 'ImportCustomImageResponse',
    ImageId: 'uimage-c0000000000000000',
  })
  assert.deepEqual(calls, [
    {
      useCase: 'images.import',
      input: {
        regionId: 'cn-bj2',
        projectId: PROJECT_ID,
        name: 'imp-1',
        description: undefined,
        tag: 'Default',
        kind: 'custom',
        osType: 'Linux',
        osName: 'CentOS 7.2 64位',
        format: 'raw',
        from: {
          is: 'url',
          source: {
            url: 'http://b.cn-bj.ufileos.com/x%20y.raw?UCloudPublicKey=TOKEN_a%2Bb&Signature=s%3D&Expires=1',
          },
        },
      },
    },
  ])
})

test('systems, formats and consent in the words that clients have for them', async () => {
  for (const [OsType, osType] of [
    ['CentOS', 'Linux'],
    ['Windows', 'Windows'],
    ['windows server', 'Windows'],
    ['RedHat', 'Linux'],
    ['Other', undefined],
    ['other', undefined],
  ] as const)
    assert.equal((await inputOf({ OsType })).osType, osType, OsType)
  assert.equal((await inputOf({ OsName: 'Other' })).osName, undefined)
  for (const [Format, format] of [
    ['RAW', 'raw'],
    ['raw', 'raw'],
    ['VHD', 'vhd'],
    ['Vmdk', 'vmdk'],
    ['QCOW2', 'qcow2'],
  ] as const)
    assert.equal((await inputOf({ Format })).format, format)
  for (const Auth of ['true', 'True', '1']) await inputOf({ Auth })
  const { description, tag } = await inputOf({ ImageDescription: 'a b', Tag: 'web' })
  assert.deepEqual([description, tag], ['a b', 'web'])
})

test('as Packer goes about it: import, then wait for Available, or stop at Unavailable', async () => {
  const id = 'c0000000000000000' as ImageId
  const importing: Image = image({
    ...{ id, origin: 'import', name: 'imp-1' },
    state: { at: 'creating', taskId: 't0000000000000000' as TaskId },
  })
  const images = [importing]
  const { ask } = testDoor({ images })
  const { ImageId } = await ask(GIVEN)
  const look = async () => {
    const { ImageSet } = await ask({
      ...{ Action: 'DescribeImage', Region: 'cn-bj2', ProjectId: PROJECT_ID },
      ImageId: String(ImageId),
    })
    // An empty set would end the wait as a failure.
    const [found] = ImageSet as { ImageId: string; State: string; ImageName: string }[]
    assert.deepEqual([found?.ImageId, found?.ImageName], [ImageId, 'imp-1'])
    return found?.State
  }
  assert.equal(await look(), 'Making')
  images[0] = { ...importing, state: { at: 'failed', reason: 'It names a backing file.' } }
  assert.equal(await look(), 'Unavailable')
  images[0] = { ...importing, state: image().state }
  assert.equal(await look(), 'Available')
})

test('a refusal does not repeat the address, which may be signed', async () => {
  const fault = new Fault('invalid', 'That address is not public.', { reason: 'address' })
  const { ask } = testDoor({ fault })
  const body = await ask({ ...GIVEN, UFileUrl: 'http://169.254.169.254/x?Signature=hush' })
  assert.deepEqual(body, {
    RetCode: 8301,
    Action: 'ImportCustomImageResponse',
    Message: 'That address is not public.',
  })
  const odd = await testDoor().ask({ ...GIVEN, UFileUrl: 'gopher://x?Signature=hush' })
  assert.equal(odd.RetCode, 230)
  assert.doesNotMatch(odd.Message, /hush/)
})
