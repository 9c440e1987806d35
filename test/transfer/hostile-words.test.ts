import assert from 'node:assert/strict'
import { access, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { waitForTask } from '../../demo/steps.ts'
import { ServerRefusal } from '../../src/cli/failure.ts'
import { rawDisk } from '../../src/disk/formats/seeds.fixture.ts'
import { HOME, untilImageIs } from '../e2e/failure-steps.ts'
import type { Place } from '../e2e/harness.ts'
import { signedNative } from '../e2e/wire.ts'
import { assertHoldsAsBefore, heldAfterHarmless, newHostilePlace } from './hostile-place.ts'
import { type Begun, beginImport, deleteImage, imported } from './transfer-place.ts'

/** What would make the file, were any of it read by a shell, or taken for an option or a path. */
const spellings = (path: string): string[] => [
  `;touch ${path};`,
  `$(touch ${path})`,
  `\`touch ${path}\``,
  `|touch ${path}`,
  `&& touch ${path} #`,
  `x\ntouch ${path}\n`,
  `';touch ${path};'`,
  `";touch ${path};"`,
  `--output=${path}`,
  `-o${path}`,
  `--use-compress-program=touch ${path}`,
  `raw,file.filename=${path}`,
  `>${path}`,
  `../../../../../..${path}`,
  path,
  `x\0;touch ${path}`,
  '%n%s%x',
  '$IFS',
  '*',
  '~',
]

/** The answer of a call that takes a word: undefined where the word was refused. */
async function taken<T>(call: Promise<T>): Promise<T | undefined> {
  try {
    return await call
  } catch (error) {
    if (!(error instanceof ServerRefusal)) throw error
    assert.ok(error.status >= 400 && error.status < 500, `${error.status}: ${error.message}`)
    return undefined
  }
}

const CHOICES = [
  'format',
  'bus',
  'firmware',
  'osType',
  'kind',
  'region',
  'project',
  'checksum',
  'signer',
  'fileName',
] as const
const TEXTS = ['name', 'description', 'tag', 'osName'] as const

test('words that a shell, an option or a path would be made of are refused, or stay words', async (t) => {
  const place = await newHostilePlace(t)
  const { native } = place.server
  const before = await heldAfterHarmless(place)
  const touched = join(place.folder, 'touched')
  const words = spellings(touched)
  await writeFile(join(place.imports, 'disk.raw'), rawDisk('MBR'))
  const wish = { region: HOME, name: 'plain', fileName: 'disk.raw' }
  const upload = { region: HOME, name: 'plain', lengthBytes: 512 }

  await t.test('choices of an import and of an upload are refused', async () => {
    for (const field of CHOICES) {
      for (const word of words) {
        const values =
          field === 'checksum' ? [`sha256:${word}`, word, { algorithm: word, hex: '0'.repeat(64) }] : [word]
        for (const value of values) {
          const body = { ...wish, [field]: value }
          assert.equal(await taken(native.call('POST', '/v1/images/import', { body })), undefined, field)
          if (field === 'fileName') continue
          const sent = { ...upload, [field]: value }
          assert.equal(await taken(native.call('POST', '/v1/uploads', { body: sent })), undefined, field)
        }
      }
    }
  })

  await t.test('texts of an import stay what they are', async () => {
    const printed = words.filter((word) => !/\p{Cc}/u.test(word))
    for (let first = 0; first < printed.length; first += 4) {
      const [name = 'x', description = 'x', tag = 'x', osName = 'x'] = printed.slice(first)
      const body = { ...wish, name, description, tag, osName }
      const begun = await native.call<Begun>('POST', '/v1/images/import', { body })
      const image = await imported(place, begun)
      assert.deepEqual(
        [image.name, image.description, image.tag, image.osName],
        [name, description, tag, osName],
      )
      await deleteImage(place, begun.imageId)
    }
    for (const word of words.filter((one) => /\p{Cc}/u.test(one))) {
      // A description alone may have several lines.
      for (const field of TEXTS.filter((one) => one !== 'description' || word.includes('\0'))) {
        const body = { ...wish, [field]: word }
        assert.equal(
          await taken(native.call('POST', '/v1/images/import', { body })),
          undefined,
          `${field}: ${word}`,
        )
      }
    }
  })

  await t.test('addresses are refused, or lead nowhere', async () => {
    for (const word of words) {
      for (const url of [word, `file://${word}`, `${place.origin}/${word}`, `s3://${word}/x`]) {
        const body = { region: HOME, name: 'plain', url }
        const begun = await taken(native.call<Begun>('POST', '/v1/images/import', { body }))
        if (begun === undefined) continue
        const task = await waitForTask(place.server, begun.taskId)
        assert.deepEqual([task.state, task.faultKind], ['failed', 'absent'], `${url}: ${task.reason}`)
        await deleteImage(place, begun.imageId)
      }
    }
  })

  await t.test('choices of an export are refused; the name of its file stays a name', async () => {
    const [word = ''] = words
    const { id } = await imported(place, await beginImport(place, { fileName: 'disk.raw' }, `${word} "x"`))
    const path = `/v1/images/${id}/exports`
    for (const [field, others] of [
      ['format', {}],
      ['compress', { format: 'raw' }],
      ['disk', { format: 'raw' }],
      ['digest', { format: 'raw' }],
      ['bundle', {}],
    ] as const) {
      for (const one of words) {
        const value = field === 'bundle' ? { inventory: one } : one
        const body = { region: HOME, ...others, [field]: value }
        assert.equal(await taken(native.call('POST', path, { body })), undefined, `${field}: ${one}`)
      }
    }
    const link = await native.call<{ path: string }>('POST', path, { body: { region: HOME, format: 'raw' } })
    const answer = await fetch(new URL(link.path, place.server.endpoint))
    assert.ok(Buffer.from(await answer.arrayBuffer()).equals(rawDisk('MBR')))
    const disposition = answer.headers.get('content-disposition') ?? ''
    assert.match(disposition, /^attachment; filename="[\w.-]+"; filename\*=UTF-8''[\w.%-]+$/)
    for (const one of words) {
      const other = new URL(
        `${link.path.slice(0, link.path.lastIndexOf('/'))}/${encodeURIComponent(one)}`,
        place.server.endpoint,
      )
      await (await fetch(other)).arrayBuffer()
    }
    await deleteImage(place, id)
  })

  await t.test('choices of the two clouds are refused', async () => {
    // Every name is Linux there that has no Windows in it: the import goes on, and finds nothing at its address.
    const [odd = ''] = words
    const begun = await place.server.uhost('ImportCustomImage', uhostWish(place.origin, 'OsType', odd))
    const { id, reason } = await untilImageIs(place.server, String(begun.ImageId), 'failed')
    assert.match(reason ?? '', /^There is no/)
    await deleteImage(place, id)
    for (const word of words) {
      for (const field of ['Format', 'Auth', 'UFileUrl', 'Region']) {
        const asked = place.server.uhost('ImportCustomImage', uhostWish(place.origin, field, word))
        await assert.rejects(asked, Error, `${field}: ${word}`)
      }
      for (const field of ['OsType', 'OssObjectPath', 'RegionId', 'DataDiskSize']) {
        const asked = place.server.wuying('UploadImage', wuyingWish(place.origin, field, word))
        await assert.rejects(asked, Error, `${field}: ${word}`)
      }
    }
  })

  await t.test('words in the headers of an upload are refused, or stay words', async () => {
    for (const word of words) {
      for (const key of ['format', 'sha256', 'bus', word.replaceAll(/[^\x21-\x7e]/g, '_')]) {
        const status = await createByHeaders(
          place,
          `name ${base64('plain')},region ${base64(HOME)},${key} ${base64(word)}`,
        )
        assert.equal(status, 400, `${key}: ${word}`)
      }
    }
  })

  await assert.rejects(access(touched), 'nobody made the file')
  for (const line of await place.tools.startedQemu()) assert.ok(!line.includes('touch'), line)
  await assertHoldsAsBefore(place, before)
})

const base64 = (text: string) => Buffer.from(text).toString('base64')

const uhostWish = (origin: string, field: string, word: string) => ({
  ...{ Region: HOME, ImageName: 'plain', UFileUrl: `${origin}/x`, Format: 'RAW', Auth: 'true' },
  ...{ OsType: 'Linux', OsName: 'Other', [field]: word },
})

const wuyingWish = (origin: string, field: string, word: string) => ({
  ...{ RegionId: HOME, ImageName: 'plain', OssObjectPath: `${origin}/x`, OsType: 'Linux', [field]: word },
})

async function createByHeaders({ server }: Place, metadata: string): Promise<number> {
  const { headers } = signedNative(server.endpoint, server.key, 'POST', '/v1/uploads')
  const answer = await fetch(new URL('/v1/uploads', server.endpoint), {
    method: 'POST',
    headers: {
      ...Object.fromEntries(Object.entries(headers).filter(([name]) => name !== 'host')),
      ...{ 'tus-resumable': '1.0.0', 'upload-length': '512', 'upload-metadata': metadata },
    },
  })
  await answer.arrayBuffer()
  return answer.status
}
