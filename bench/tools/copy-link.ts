import { join } from 'node:path'
import { calotypeCopy, qemuImgCopy, resticCopy, rsyncCopy } from './copy-contenders.ts'
import { newPeerFile } from './copy-peer.ts'
import {
  rsyncUrl,
  type SourceServer,
  serveQcow2,
  serveRestic,
  serveRsync,
  serveStore,
  tellUrl,
} from './copy-servers.ts'
import { type CopySources, type OurSource, prepareOurs, type Version } from './copy-sources.ts'
import { isInstalled } from './machine.ts'
import { type Contender, compare } from './measure.ts'
import { LINE, type Link, openLink } from './netem-link.ts'
import type { Findings, Mark, Row } from './report.ts'

// Copies between two processes over a link of 200 Mbit/s and 25 ms: ours over HTTPS as between two installations, restic from
// a repository that is served over HTTP, rsync from its daemon, qemu-img from the packed image over NBD.

const MOVED_SHARE_MAX = 1.02
const LINK_SHARE_MIN = 0.95

type Say = (line: string) => void
const OURS = 'calotype over the link'
const LARGE = `${OURS}, Debian disk`
const next = (name: string) => `${name}, next version`

/** A store of ours, served over a link; `peerPath` is what its reader has to know. */
export async function withServedStore<Result>(
  scratch: string,
  folder: string,
  work: (served: { readonly link: Link; readonly peerPath: string }) => Promise<Result>,
): Promise<{ readonly result: Result; readonly sourceRow: Row; readonly link: Link }> {
  const link = await openLink()
  try {
    const peerPath = join(scratch, 'peer.json')
    newPeerFile(peerPath)
    const server = await serveStore(link.inside, folder, peerPath)
    try {
      tellUrl(peerPath, await link.reach(server.port))
      const result = await work({ link, peerPath })
      const sourceRow = { name: `${OURS}, the source's end`, peakRssBytes: server.peakRssBytes() }
      return { result, sourceRow, link }
    } finally {
      await server.stop()
    }
  } finally {
    await link.close()
  }
}

export async function linkPart(
  scratch: string,
  sources: CopySources,
  large: string,
  say: Say,
): Promise<Findings> {
  const served = await withServedStore(scratch, sources.ours.folder, ({ link, peerPath }) =>
    withPeers(scratch, sources, link, async ({ quick, slow }) => {
      if (link.note !== undefined) say(`the link is a process of ours: ${link.note}`)
      const own = ([0, 1] as const).map((version) =>
        calotypeCopy({ name: version === 0 ? OURS : next(OURS), version, link }, sources.ours, peerPath),
      )
      const rows = await compare([...own, ...quick], say)
      return [...rows, ...(await compare(slow, say, 1))]
    }),
  )
  const rows = [...served.result, ...(await largeRows(scratch, large, say))]
  const names = rows.map(({ name }) => name)
  return {
    rows: [...withLink(rows, served.link), served.sourceRow],
    races: [
      { ours: OURS, peers: names.filter((name) => !name.startsWith(OURS) && !name.endsWith(next(''))) },
      { ours: next(OURS), peers: names.filter((name) => !name.startsWith(OURS) && name.endsWith(next(''))) },
    ],
    marks: marksOf(rows),
  }
}

/** The rate needs a copy that is long beside its beginning. */
async function largeRows(scratch: string, disk: string, say: Say): Promise<Row[]> {
  const folder = join(scratch, 'large')
  const ours: OurSource = await prepareOurs(folder, [disk])
  const { result } = await withServedStore(scratch, ours.folder, ({ link, peerPath }) =>
    compare([calotypeCopy({ name: LARGE, version: 0, link }, ours, peerPath)], say, 1),
  )
  return result
}

const withLink = (rows: readonly Row[], { kind, note }: Link): Row[] =>
  rows.map((row) => ({
    ...row,
    link: kind,
    ...(note === undefined || row.reason !== undefined ? {} : { linkNote: note }),
    ...(row.seconds === undefined || row.linkBytes === undefined
      ? {}
      : { linkShare: Number(((row.linkBytes as number) / row.seconds / LINE.bytesPerSecond).toFixed(3)) }),
  }))

/** The others, for as long as `work` takes: those that take a few seconds, and those that take many. */
interface Peers {
  readonly quick: readonly Contender[]
  readonly slow: readonly Contender[]
}

/** The servers of those that are installed run while `work` does. */
async function withPeers<Result>(
  scratch: string,
  sources: CopySources,
  link: Link,
  work: (peers: Peers) => Promise<Result>,
): Promise<Result> {
  const servers: SourceServer[] = []
  /** Where it is reached; a name that is never used where the tool is not there, as its row says. */
  const reach = async (tool: string, start: () => Promise<SourceServer>): Promise<number> => {
    if (!isInstalled(tool)) return 0
    const server = await start()
    servers.push(server)
    return link.reach(server.port)
  }
  try {
    const restic = await reach('restic', () => serveRestic(link.inside, sources.repository))
    const rsync = await reach('rsync', () => serveRsync(link.inside, scratch, sources))
    const qcow2 = await reach('qemu-img', () => serveQcow2(link.inside, sources.qcow2))
    const named = (name: string, version: Version) => ({
      ...{ name: version === 0 ? name : next(name), version, link },
    })
    const versions = [0, 1] as const
    const quick = versions.map((version) =>
      resticCopy(named('restic copy over the link', version), sources, `rest:http://127.0.0.1:${restic}/`),
    )
    const disks = versions.map((version) =>
      rsyncCopy(named('rsync over the link', version), sources, link, rsyncUrl(rsync, sources, version)),
    )
    const image = qemuImgCopy('qemu-img over the link', sources, link, `nbd://127.0.0.1:${qcow2}`)
    return await work({ quick, slow: [...disks, image] })
  } finally {
    for (const server of servers) await server.stop()
  }
}

function marksOf(rows: readonly Row[]): Mark[] {
  const marks: Mark[] = []
  for (const { name, seconds, movedBytes, missingBytes } of rows) {
    if (seconds === undefined || movedBytes === undefined || missingBytes === undefined) continue
    const moved = movedBytes / (missingBytes as number)
    marks.push({
      what: `${name}: bytes moved by those missing`,
      ...{ goal: `<= ${MOVED_SHARE_MAX}`, got: moved, met: moved <= MOVED_SHARE_MAX },
    })
    if (name !== LARGE && name !== OURS) continue
    const share = movedBytes / seconds / LINE.bytesPerSecond
    const mark = { what: `${name}: bytes moved, share of the link`, goal: `>= ${LINK_SHARE_MIN}` }
    marks.push({ ...mark, got: share, met: share >= LINK_SHARE_MIN })
  }
  return marks
}
