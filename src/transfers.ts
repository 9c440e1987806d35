import { createHmac } from 'node:crypto'
import { readdirSync } from 'node:fs'
import type { Parts } from './app/parts.ts'
import type { Fetcher, FormatReader } from './intake/contract.ts'
import type { Settings } from './settings.ts'
import type { Intake } from './tasks/parts.ts'
import { createSourceSeal } from './tasks/source-seal.ts'

const HOUR_MS = 60 * 60 * 1000
const TIMER_MS_MAX = 2 ** 31 - 1

/** What keys are for; no two of them are the same. */
export function transferKeys(key: Uint8Array): {
  readonly sources: Uint8Array
  readonly bundles: Uint8Array
} {
  const derive = (use: string) => createHmac('sha256', key).update(`calotype transfers ${use}`).digest()
  return { sources: derive('sources'), bundles: derive('bundles') }
}

type LazyFetcher = Pick<Fetcher, 'open'> & Parts['transfers']['fetcher']

/**
 * Joins what brings files in and hands them out. Reader and fetcher are loaded when they are first needed, as most starts
 * need neither.
 */
export function createTransfers(
  settings: Settings,
  where: {
    readonly runDirectory: string
    readonly rawFiles: Intake['rawFiles']
    /** Of the installation, 32 bytes. */
    readonly key: Uint8Array
    readonly log: (record: Record<string, unknown>) => void
  },
): { readonly intake: Intake; readonly transfers: Parts['transfers'] } {
  const { imports, exports, bundles } = settings
  const { sources, bundles: seed } = transferKeys(where.key)
  const reader = lazyReader(where)
  const fetcher = lazyFetcher(settings)
  const seal = createSourceSeal(sources)
  const { diskBytesMax, ratioMax } = imports
  return {
    intake: {
      ...{ reader, fetcher, seal, diskBytesMax, ratioMax, rawFiles: where.rawFiles },
      fetchMs: imports.fetchHours * HOUR_MS,
      signers: bundles.signers,
    },
    transfers: {
      ...{ fetcher, seal, diskBytesMax },
      uploadMs: imports.uploadHours * HOUR_MS,
      linkMs: exports.linkHours * HOUR_MS,
      uploadsPerProjectMax: imports.uploadsMax,
      async describeSelf(region, pages) {
        const { bundleKeys } = await import('./store/bundle/keys.ts')
        const { encodeInventory } = await import('./store/bundle/inventory.ts')
        return encodeInventory({ recipient: bundleKeys(seed).recipientPublic, region, pages })
      },
      async signer() {
        const { bundleKeys } = await import('./store/bundle/keys.ts')
        return bundleKeys(seed).signerPublic
      },
      async readInventory(text) {
        const { parseInventory } = await import('./store/bundle/inventory.ts')
        return parseInventory(text)
      },
    },
  }
}

function lazyReader({
  runDirectory,
  log,
}: {
  readonly runDirectory: string
  readonly log: (record: Record<string, unknown>) => void
}): FormatReader {
  let opened: Promise<FormatReader> | undefined
  const open = () => {
    opened ??= import('./intake/reader.ts').then(({ createFormatReader }) =>
      createFormatReader({ runDirectory, log }),
    )
    return opened
  }
  return {
    facts: async () => (await open()).facts(),
    prepare: async (key) => (await open()).prepare(key),
    open: async (...given) => (await open()).open(...given),
    close: async (key) => (await open()).close(key),
    async closeAll() {
      // Without such a folder nobody left anything.
      if (opened === undefined && !readdirSync(runDirectory).some((name) => name.startsWith('read-'))) return
      await (await open()).closeAll()
    },
  }
}

function lazyFetcher({ imports }: Settings): LazyFetcher {
  let opened: Promise<Fetcher> | undefined
  const open = () => {
    opened ??= import('./intake/fetch.ts').then(({ createFetcher }) =>
      createFetcher({
        allow: imports.allow,
        // No timer waits longer; who fetches ends it in time by itself, and goes on with what came.
        totalMs: Math.min(imports.fetchHours * HOUR_MS, TIMER_MS_MAX),
      }),
    )
    return opened
  }
  return {
    check: async (source) => (await open()).check(source),
    open: async (...given) => (await open()).open(...given),
  }
}
