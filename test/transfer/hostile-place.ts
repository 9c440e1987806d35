import assert from 'node:assert/strict'
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import type { TestContext } from 'node:test'
import { ensureRunDirectory } from '../../src/data-directory.ts'
import { buildQcow2 } from '../../src/disk/formats/qcow2.fixture.ts'
import { HOME, inside, objectsOf } from '../e2e/failure-steps.ts'
import { newPlace, type Place, type PlaceOptions } from '../e2e/harness.ts'
import { type Canary, newCanary } from './canary.ts'
import { beginImport, chargedBytes, collectNow, deleteImage, imported } from './transfer-place.ts'
import { type WatchedTools, watchTools } from './watched-tools.ts'

/** A server that strangers send files to, with everything around it that tells what becomes of them. */
export interface HostilePlace extends Place {
  readonly imports: string
  /** The test's own. */
  readonly folder: string
  readonly tools: WatchedTools
  readonly canary: Canary
  /** Files by name that have an address, at `origin`. */
  readonly served: Map<string, Buffer>
  readonly origin: string
}

export async function newHostilePlace(
  t: TestContext,
  environment: Readonly<Record<string, string>> = {},
  more: Pick<PlaceOptions, 'wrapper' | 'data'> = {},
): Promise<HostilePlace> {
  const folder = await mkdtemp(join(tmpdir(), 'calo-hostile-'))
  const imports = join(folder, 'imports')
  await mkdir(imports)
  const tools = await watchTools(folder)
  const served = new Map<string, Buffer>()
  const server = createServer((request, response) => {
    const bytes = served.get((request.url ?? '').slice(1))
    if (bytes === undefined) response.writeHead(404).end()
    else response.writeHead(200, { 'content-length': bytes.length, etag: `"${request.url}"` }).end(bytes)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const canary = await newCanary(t, folder)
  const place = await newPlace(t, {
    ...more,
    importDirectory: imports,
    environment: {
      ...{ CALOTYPE_HOST_DRIVER: 'simulated', CALOTYPE_DEFAULT_REGION: HOME },
      ...{ CALOTYPE_IMPORTS_ALLOW: '127.0.0.1', CALOTYPE_IMAGES_PER_REGION_MAX: '100000', PATH: tools.path },
      ...environment,
    },
  })
  t.after(async () => {
    server.closeAllConnections()
    server.close()
    await rm(folder, { recursive: true, force: true })
  })
  const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  return Object.assign(place, { imports, folder, tools, canary, served, origin })
}

/** What a server holds on to, apart from rows about the past. */
interface Held {
  readonly objects: readonly string[]
  readonly sessions: readonly string[]
  readonly charge: number
  readonly unfinished: number
  readonly run: readonly string[]
  readonly processes: readonly string[]
}

/**
 * What the server holds once a harmless file of another format was imported and its image is gone: so that afterwards
 * nothing but what a stranger left can be new. It also proves that the watch over the tools sees a reader.
 */
export async function heldAfterHarmless(place: HostilePlace): Promise<Held> {
  const harmless = buildQcow2({
    virtualBytes: 1024 ** 2,
    clusters: new Map([[0, Buffer.alloc(4096, 'plain')]]),
  })
  await writeFile(join(place.imports, 'harmless'), harmless)
  const { id } = await imported(place, await beginImport(place, { fileName: 'harmless' }, 'harmless'))
  const started = await place.tools.startedQemu()
  assert.ok(
    started.some((line) => line.includes('qemu-nbd --read-only')),
    'the watch sees the reader',
  )
  await deleteImage(place, id)
  await place.tools.forget()
  return held(place)
}

/** Fails unless the server holds what it held, in store, rows, folders and processes. */
export async function assertHoldsAsBefore(place: HostilePlace, before: Held): Promise<void> {
  assert.deepEqual(await held(place), before)
}

async function held(place: HostilePlace): Promise<Held> {
  await collectNow(place)
  const query = { region: HOME }
  type Uploads = { readonly uploads: readonly { readonly state: string }[] }
  const { uploads } = await place.server.native.call<Uploads>('GET', '/v1/uploads', { query })
  const run = await ensureRunDirectory(place.data)
  return {
    objects: await objectsOf(place, HOME),
    sessions: sessionsOf(place),
    charge: await chargedBytes(place),
    unfinished: uploads.filter(({ state }) => state === 'receiving').length,
    run: (await readdir(run, { recursive: true })).sort(),
    processes: await processesOf(run),
  }
}

function sessionsOf(place: Place): string[] {
  const database = new DatabaseSync(inside(place, `regions/${HOME}/index.db`), { readOnly: true })
  try {
    return database
      .prepare('SELECT id FROM session')
      .all()
      .map(({ id }) => String(id))
  } finally {
    database.close()
  }
}

/** Programs that were started for this server's files. */
async function processesOf(run: string): Promise<string[]> {
  const found: string[] = []
  for (const pid of await readdir('/proc')) {
    if (!/^\d+$/.test(pid)) continue
    const line = (await readFile(`/proc/${pid}/cmdline`, 'latin1').catch(() => '')).replaceAll('\0', ' ')
    if (line.includes(run) && /qemu-|unshare|setpriv|\bxz\b/.test(line)) found.push(line)
  }
  return found
}
