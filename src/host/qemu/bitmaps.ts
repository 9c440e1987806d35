import {
  BITMAP_GRANULARITY_BYTES,
  type Bitmap,
  type BitmapStep,
  bitmapName,
  isOurs,
  type Outcome,
  stepsAfter,
} from '../tools/bitmaps.ts'
import { untilTaken } from './nodes.ts'
import type { Qmp, QmpCommand } from './qmp.ts'

/** A disk's layer in a running QEMU, and the earlier capture whose bitmap in it stops, or stopped, at the moment. */
export interface BitmapPlace {
  readonly node: string
  readonly since: string | undefined
}

interface BlockNodeInfo {
  readonly 'node-name': string
  readonly 'dirty-bitmaps'?: readonly {
    readonly name?: string
    readonly granularity: number
    readonly recording: boolean
    readonly persistent: boolean
    readonly inconsistent?: boolean
  }[]
}

/** Our bitmaps by the name of their node. */
export async function queryBitmaps(qmp: Qmp): Promise<(node: string) => Bitmap[]> {
  const nodes = (await qmp.execute('query-named-block-nodes', { flat: true })) as BlockNodeInfo[]
  const all = new Map(nodes.map((node) => [node['node-name'], node['dirty-bitmaps'] ?? []]))
  return (node) =>
    (all.get(node) ?? [])
      .filter(({ name }) => name !== undefined && isOurs(name))
      .map(({ name = '', granularity, recording, persistent, inconsistent = false }) => ({
        name,
        granularityBytes: granularity,
        isRecording: recording,
        isIntact: persistent && !inconsistent,
      }))
}

/** All of the steps or, if QEMU refuses one, none. */
export async function changeLiveBitmaps(
  qmp: Qmp,
  disks: readonly { readonly node: string; readonly steps: readonly BitmapStep[] }[],
): Promise<void> {
  const actions = disks.flatMap(({ node, steps }) => steps.map((step) => action(node, step)))
  if (actions.length > 0) await qmp.execute('transaction', { actions })
}

/** What belongs to the moment itself: each disk's bitmap of `key` starts where that of `since` stops. */
export function momentCommand(places: readonly BitmapPlace[], key: string): QmpCommand {
  const actions = places.flatMap(({ node, since }) => {
    const add = action(node, { do: 'add', name: bitmapName(key) })
    if (since === undefined) return [add]
    return [add, { type: 'block-dirty-bitmap-disable', data: { node, name: bitmapName(since) } }]
  })
  return { execute: 'transaction', arguments: { actions } }
}

/** Ends a capture in the layers of a running guest, all disks at once. Its exports are gone or on their way out. */
export async function settleLive(
  qmp: Qmp,
  places: readonly BitmapPlace[],
  key: string,
  outcome: Outcome,
): Promise<void> {
  await untilTaken(async () => {
    const bitmapsOf = await queryBitmaps(qmp)
    const disks = places.map(({ node, since }) => ({
      node,
      steps: stepsAfter(bitmapsOf(node), key, since, outcome),
    }))
    await changeLiveBitmaps(qmp, disks)
  })
}

/** Source: QEMU 7.2, QMP reference, 'transaction'. */
function action(node: string, step: BitmapStep) {
  const { name } = step
  if (step.do === 'merge')
    return { type: 'block-dirty-bitmap-merge', data: { node, target: name, bitmaps: [step.from] } }
  if (step.do !== 'add') return { type: `block-dirty-bitmap-${step.do}`, data: { node, name } }
  const data = { node, name, persistent: true, granularity: BITMAP_GRANULARITY_BYTES }
  return { type: 'block-dirty-bitmap-add', data }
}
