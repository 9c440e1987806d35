import assert from 'node:assert/strict'
import { beforeEach, test } from 'node:test'
import { Fault } from '../../image/fault.ts'
import type { Door } from '../gateway-contract.ts'
import { createNativeDoor } from './door.ts'
import { createFakeApp, type FakeApp } from './fixture.ts'
import { fakeImage, NOW_MS } from './fixture-nouns.ts'
import { signedRequest } from './fixture-request.ts'

let fake: FakeApp
let door: Door

beforeEach(() => {
  fake = createFakeApp()
  door = createNativeDoor({
    app: fake.app,
    keyring: fake.keyring,
    clock: () => NOW_MS,
    clockWindowMs: 60_000,
    onBug: (error) => {
      throw error
    },
  })
})

async function ask(method: string, url: string, body?: unknown) {
  const answer = await door.handle(signedRequest(method, url, body))
  return { status: answer.status, text: answer.body.toString(), json: JSON.parse(answer.body.toString()) }
}

test('from the import folder, as ever, and from outside', async () => {
  const nothing = {
    ...{ projectId: undefined, description: undefined, tag: undefined, osType: undefined },
    ...{ osName: undefined, firmware: undefined, bus: undefined, format: undefined },
    ...{ checksum: undefined, signer: undefined },
  }
  const { status, json } = await ask('POST', '/v1/images/import', { fileName: 'a.raw', name: 'n' })
  assert.equal(status, 202)
  assert.match(json.imageId, /^img-/)
  assert.match(json.taskId, /^task-/)
  assert.deepEqual(fake.calls.at(-1)?.input, {
    ...nothing,
    ...{ regionId: 'cn-hangzhou', name: 'n', kind: 'custom', from: { is: 'file', fileName: 'a.raw' } },
  })
  const url = 'https://bucket.example.com/disk.qcow2?Signature=secret%3D'
  await ask('POST', '/v1/images/import?region=hk', { url, name: 'n', checksum: `sha256:${'AB'.repeat(32)}` })
  assert.deepEqual(fake.calls.at(-1)?.input, {
    ...nothing,
    ...{ regionId: 'hk', name: 'n', kind: 'custom', checksum: { algorithm: 'sha256', hex: 'ab'.repeat(32) } },
    from: { is: 'url', source: { url } },
  })
  const s3 = { endpoint: 'https://s3.example.com', region: 'r', keyId: 'AK', secret: 'sk-very-secret' }
  const all = {
    ...{ name: 'n', kind: 'base', osType: 'Windows', osName: 'Windows 11', firmware: 'uefi', tag: 't' },
    ...{ bus: 'virtio-scsi', format: 'ova', checksum: { algorithm: 'sha512', hex: '0'.repeat(128) } },
  }
  const made = await ask('POST', '/v1/images/import', { ...all, url: 's3://b/k', s3 })
  assert.deepEqual(fake.calls.at(-1)?.input, {
    ...{ ...nothing, ...all, regionId: 'cn-hangzhou' },
    from: { is: 'url', source: { url: 's3://b/k', s3 } },
  })
  const later = await ask('GET', `/v1/images/${made.json.imageId}`)
  assert.doesNotMatch(made.text + later.text, /very-secret/)
})

test('a source that is none, or two, or not well said', async () => {
  const bad = async (body: object, field: string) => {
    const { status, json, text } = await ask('POST', '/v1/images/import', { name: 'n', ...body })
    assert.deepEqual([status, json.error.field], [400, field], text)
    assert.doesNotMatch(text, /hush/)
  }
  const url = 'https://example.com/x'
  await bad({}, 'fileName')
  await bad({ fileName: 'a', url }, 'fileName')
  await bad({ fileName: '' }, 'fileName')
  await bad({ url: '' }, 'url')
  await bad({ url: 'x'.repeat(8193) }, 'url')
  await bad({ fileName: 'a', s3: { keyId: 'k', secret: 'hush' } }, 's3')
  await bad({ url, s3: { keyId: 'k' } }, 's3.secret')
  await bad({ url, s3: { keyId: 'k', secret: 7 } }, 's3.secret')
  await bad({ url, s3: { keyId: 'k', secret: 'hush', token: 'hush' } }, 's3')
  await bad({ url, s3: 'hush' }, 's3')
  await bad({ url, format: 'iso' }, 'format')
  for (const checksum of [
    'x',
    'sha256:x',
    `sha256:${'0'.repeat(63)}`,
    `sha3:${'0'.repeat(64)}`,
    `__proto__:${'0'.repeat(64)}`,
    { algorithm: 'md5' },
    { algorithm: 'md5', hex: '0'.repeat(32), more: 1 },
    [],
    7,
  ])
    await bad({ url, checksum }, 'checksum')
  await bad({ url, signer: '0'.repeat(63) }, 'signer')
  await bad({ url, osType: 'BeOS' }, 'osType')
  assert.deepEqual(fake.calls, [])
})

test('what the inside refuses at once is told', async () => {
  for (const [fault, status] of [
    [new Fault('invalid', 'Not public.', { reason: 'address' }), 400],
    [new Fault('absent', 'No such file.', { subject: 'file' }), 404],
    [new Fault('invalid', 'Too large a disk.', { subject: 'file', reason: 'too-large' }), 400],
    [new Fault('full', 'Make room.', { subject: 'project', reason: 'quota' }), 507],
  ] as const) {
    fake.failNext('images.import', fault)
    const said = await ask('POST', '/v1/images/import', { url: 'https://example.com/x', name: 'n' })
    assert.deepEqual([said.status, said.json.error.message], [status, fault.message])
  }
})

test('an image shows what was found of its file, beside what it is taken for', async () => {
  const imported = {
    format: 'qcow2 (version 3, zstd), gzip',
    fileBytes: 12_345,
    sha256: 'ab'.repeat(32),
    osType: 'Linux',
    osName: 'Debian 13',
    firmware: undefined,
  } as const
  const image = fakeImage({ imported, osName: 'declared' })
  fake.images.set(image.id, image)
  const { json } = await ask('GET', `/v1/images/img-${image.id}`)
  assert.deepEqual([json.osName, json.imported], ['declared', { ...imported, firmware: null }])
  const other = fakeImage()
  fake.images.set(other.id, other)
  assert.equal((await ask('GET', `/v1/images/img-${other.id}`)).json.imported, null)
})
