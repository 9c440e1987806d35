import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { PutObjectCommand, S3Client } from '@aws-sdk/client-s3'
import { stopServer } from '../../demo/server.ts'
import { makeBucket } from '../../src/objects/s3.fixture.ts'
import { startCeph } from '../ceph/ceph.ts'
import { calotype } from '../clean/command.ts'
import { newSmallPlace, personOf } from '../e2e/small-place.ts'
import { HOME } from '../e2e/valid-calls.ts'
import { askNative, imageOf, listening, reasonOf } from './import-doors.ts'
import { newSecret, wordsIn, wordsInCatalog, wordsInFolder } from './secret-words.ts'

test('a file comes out of a bucket, and its keys go nowhere but there', async (t) => {
  const ceph = await startCeph()
  t.after(() => ceph.stop())
  const keys = { keyId: newSecret('keyId'), secret: newSecret('key') }
  const wrong = newSecret('wrong')
  await ceph.administer(
    ...['key', 'create', '--uid=test', `--access-key=${keys.keyId}`, `--secret-key=${keys.secret}`],
  )
  const { endpoint, region } = ceph
  const source = { endpoint, region, accessKeyId: keys.keyId, secretAccessKey: keys.secret }
  await makeBucket(source, 'disks')
  const client = new S3Client({
    ...{ endpoint, region, forcePathStyle: true },
    credentials: { accessKeyId: keys.keyId, secretAccessKey: keys.secret },
  })
  const bytes = randomBytes(3 * 1024 ** 2)
  const odd = "a folder/dïsk (1)'+&=%41.raw"
  for (const Key of ['disk.raw', odd]) {
    await client.send(new PutObjectCommand({ Bucket: 'disks', Key, Body: bytes }))
  }
  client.destroy()

  const place = await newSmallPlace(t, { CALOTYPE_IMPORTS_ALLOW: new URL(endpoint).host })
  const answers: string[] = []
  const person = listening(personOf(place), answers)
  await writeFile(join(place.importDirectory, 'same.raw'), bytes)
  const ask = (more: object) => askNative(person, { name: 'disk', osType: 'Linux', ...more })
  const { digest } = await imageOf(person, await ask({ fileName: 'same.raw' }))

  for (const key of ['disk.raw', odd]) {
    const asked = await ask({ url: `s3://disks/${key}`, s3: { endpoint, region, ...keys } })
    assert.equal((await imageOf(person, asked)).digest, digest, key)
  }
  const secretFile = join(place.importDirectory, 'secret')
  await writeFile(secretFile, `${keys.secret}\n`)
  const s3 = ['--s3-endpoint', endpoint, '--s3-region', region, '--s3-secret-file', secretFile]
  const argv = ['image', 'import', 's3://disks/disk.raw', '--name', 'by-command', '--os-type', 'Linux']
  const keyFlag = ['--s3-key-id', keys.keyId]
  const ran = await calotype(place, ...argv, '--region', HOME, ...s3, ...keyFlag, '--wait', '--json')
  assert.equal(ran.exitCode, 0, ran.stderr)
  assert.equal((JSON.parse(ran.stdout) as { image: { digest: string } }).image.digest, digest)
  answers.push(ran.stdout, ran.stderr)

  const bad = { ...keys, secret: wrong }
  for (const [url, given, faultKind, told] of [
    ['s3://disks/disk.raw', bad, 'denied', /does not give us this file/],
    ['s3://disks/absent.raw', keys, 'absent', /no file at this address/],
    ['s3://nothing/disk.raw', keys, 'absent', /no file at this address/],
  ] as const) {
    const asked = await ask({ url, s3: { endpoint, region, ...given } })
    assert.match(await reasonOf(person, asked, faultKind), told)
  }

  await stopServer(place.server)
  const words = [...Object.values(keys), wrong]
  assert.deepEqual(wordsIn(answers.join('\n'), words), [])
  assert.deepEqual(await wordsInFolder(place.data, words), [])
  assert.deepEqual(wordsInCatalog(place.data, words), [])
})
