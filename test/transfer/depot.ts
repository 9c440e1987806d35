import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { stopServer } from '../../demo/server.ts'
import { type LocalServer, startServer } from '../../src/intake/fetch.fixture.ts'
import { newSmallPlace, type Person, personOf, type SmallPlace } from '../e2e/small-place.ts'
import type { ServedFile } from './file-origin.ts'
import { askNative, imageOf, listening } from './import-doors.ts'
import { newSecret, wordsIn, wordsInCatalog, wordsInFolder } from './secret-words.ts'
import { makeCertificate, startTls } from './tls-origin.ts'

export const MIB = 1024 ** 2
export const SIZE_BYTES = 4 * MIB
export const SIZE_BYTES_MAX = 8 * MIB
export const WORDS = {
  query: newSecret('query'),
  sentOn: newSecret('sentOn'),
  password: newSecret('password'),
  inside: newSecret('inside'),
}
export const SIGNED = `?X-Amz-Credential=${WORDS.query}&X-Amz-Signature=${WORDS.query}`

export type Answer = (request: IncomingMessage, response: ServerResponse) => void

export interface Depot {
  readonly place: SmallPlace
  readonly person: Person
  /** All that the server said to the person. */
  readonly answers: string[]
  /** The one address that is allowed, and what it answers at each path. */
  readonly origin: LocalServer
  readonly paths: Map<string, Answer>
  /** Over TLS: with a certificate that the server trusts, and with another. */
  readonly secure: string
  readonly untrusted: string
  /** On the same host, and not allowed. */
  readonly canary: LocalServer
}

export async function newDepot(t: TestContext): Promise<Depot> {
  const folder = await mkdtemp(join(tmpdir(), 'calo-origin-'))
  t.after(() => rm(folder, { recursive: true, force: true }))
  const paths = new Map<string, Answer>()
  const listener: Answer = (request, response) => {
    const answer = paths.get(new URL(request.url ?? '', 'http://x').pathname)
    if (answer === undefined) response.writeHead(404).end(WORDS.inside)
    else answer(request, response)
  }
  const origin = await startServer(listener)
  const canary = await startServer((_, response) => response.end(WORDS.inside))
  t.after(() => Promise.all([origin.close(), canary.close()]))
  const trusted = await makeCertificate(folder, 'trusted')
  const secure = await startTls(t, trusted, listener)
  const untrusted = await startTls(t, await makeCertificate(folder, 'untrusted'), listener)
  const place = await newSmallPlace(t, {
    CALOTYPE_IMPORTS_ALLOW: [`127.0.0.1:${origin.port}`, secure.host, untrusted.host].join(','),
    CALOTYPE_IMPORTS_DISK_BYTES_MAX: String(SIZE_BYTES_MAX),
    NODE_EXTRA_CA_CERTS: trusted.certificate,
  })
  const answers: string[] = []
  const person = listening(personOf(place), answers)
  return {
    ...{ place, person, answers, origin, paths, canary },
    ...{ secure: secure.origin, untrusted: untrusted.origin },
  }
}

/** Half of it noise, half of it zero. */
function newDisk(): Buffer {
  return Buffer.concat([randomBytes(SIZE_BYTES / 2), Buffer.alloc(SIZE_BYTES / 2)])
}
export const newFile = (bytes = newDisk()): ServedFile => ({
  bytes,
  etag: `"${randomBytes(6).toString('hex')}"`,
})
export const sha256 = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex')

/** The digest of the image that the same disk makes when it comes out of the import folder. */
export async function digestOf({ place, person }: Depot, bytes: Buffer): Promise<string | null> {
  const fileName = `${randomBytes(6).toString('hex')}.raw`
  await writeFile(join(place.importDirectory, fileName), bytes)
  const image = await imageOf(person, await askNative(person, { name: fileName, fileName, osType: 'Linux' }))
  return image.digest
}

/** Imports from a path of the origin through our own door. */
export const importFrom = ({ person, origin }: Depot, path: string, more: object = {}) =>
  askNative(person, { name: path, url: `${origin.origin}${path}${SIGNED}`, osType: 'Linux', ...more })

export const requestsOf = ({ origin }: Depot, path: string) =>
  origin.requests.filter(({ url }) => url.split('?')[0] === path)

/** The canary was left alone, and no answer, no log, no row and no file has a secret of an address or of what it answered. */
export async function assertNothingTold({ place, answers, canary }: Depot): Promise<void> {
  assert.equal(canary.connectionCount(), 0)
  await stopServer(place.server)
  const words = Object.values(WORDS)
  assert.deepEqual(wordsIn(answers.join('\n'), words), [])
  assert.deepEqual(await wordsInFolder(place.data, words), [])
  assert.deepEqual(wordsInCatalog(place.data, words), [])
}
