import assert from 'node:assert/strict'
import { rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { routes } from '../../src/wire/native/routes/index.ts'
import type { ShownImage } from '../../src/wire/native/show.ts'
import { OPERATIONS as UHOST } from '../../src/wire/uhost/operations/index.ts'
import { OPERATIONS as WUYING } from '../../src/wire/wuying/operations/index.ts'
import { idle } from './harness.ts'
import { ask, nativeRefuses, openScene, uhostRefuses, without, wuyingRefuses } from './refusals.ts'
import { cancelAll, good, launch, taskEnd, until, untilState } from './small-place.ts'
import {
  AWAY,
  DESKTOP_TYPE,
  HOME,
  type NativeCall,
  nativeCalls,
  uhostCalls,
  wuyingCalls,
} from './valid-calls.ts'
import type { Flat } from './wire.ts'

const NOTHING = '0'.repeat(17)

test('bad requests: the cloud’s own code, a way out, nothing left behind', async (t) => {
  const { place, root, own, base, image, running, snapshot, things, unchanged, more } = await openScene(
    t,
    async (root, base) => ({ doomed: await launch(root, base), slow: await launch(root, base, 2, 32_768) }),
  )
  const [[doomed = ''], [slow = '', slower = '']] = [more.doomed, more.slow]
  const where = { Region: HOME, ProjectId: own }
  const [vm, img] = [`ecd-${NOTHING}`, `m-${NOTHING}`]

  await t.test('a parameter that is missing, one by one, at every operation', async () => {
    for (const { name, parameters } of WUYING) {
      const all = wuyingCalls[name]?.(things) ?? {}
      const required = Object.entries(parameters).flatMap(([key, { use }]) =>
        use === 'required' ? [key] : [],
      )
      if (name === 'CreateImage') required.push('DesktopId')
      if (name === 'CreateDesktops') required.push('DesktopAttachment')
      for (const field of required) {
        const expected = [400, `Missing${field}`] as const
        await wuyingRefuses(root, name, without(all, field), expected, /is mandatory for this action/)
        // Sent empty is not sent.
        await wuyingRefuses(root, name, { ...without(all, field), [field]: '' }, expected)
      }
    }
    const create = wuyingCalls.CreateDesktops?.(things) ?? {}
    for (const [field, attachment] of [
      ['ImageId', { DesktopType: DESKTOP_TYPE }],
      ['DesktopType', { ImageId: base }],
    ] as const) {
      const bad = { ...create, DesktopAttachment: JSON.stringify(attachment) }
      await wuyingRefuses(root, 'CreateDesktops', bad, [400, `Missing${field}`])
    }
    await wuyingRefuses(root, 'CreateDesktops', { ...create, 'Tag.1.Value': 'v' }, [400, 'MissingTag.Key'])

    for (const { name, parameters } of UHOST) {
      const all: Flat = { ...uhostCalls[name]?.(things) }
      const required = Object.entries(parameters).flatMap(([key, one]) => (one.isRequired ? [key] : []))
      for (const field of required) {
        const message = new RegExp(`^Missing params \\[${field}\\]$`)
        await uhostRefuses(root, name, without(all, field), 220, message)
        await uhostRefuses(root, name, { ...all, [field]: '' }, 220, message)
      }
    }
    const host = uhostCalls.CreateUHostInstance?.(things) ?? {}
    const disk: Flat = { 'Disks.0.IsBoot': 'True', 'Disks.0.Type': 'CLOUD_SSD', 'Disks.0.Size': '4' }
    for (const field of Object.keys(disk)) {
      const bad = { ...host, ...without(disk, field) }
      await uhostRefuses(root, 'CreateUHostInstance', bad, 220, new RegExp(`\\[${field}\\]`))
    }

    for (const { method, path: pattern, fields } of routes) {
      const route = `${method} ${pattern}`
      const { path, query, body } = nativeCalls[route]?.(things) ?? { path: '' }
      for (const [field, rule] of Object.entries(fields)) {
        if (rule.isOptional || pattern.includes(`:${field}`)) continue
        const rest = Object.fromEntries(Object.entries(body ?? {}).filter(([name]) => name !== field))
        const answer = ask(root, route, { path, ...(query && { query }), body: rest })
        await nativeRefuses(answer, 400, 'invalid', new RegExp(`^'${field}' is missing\\. It takes `))
      }
    }
    await unchanged()
  })

  await t.test('what does not exist: region, zone, project, machine, image, task, user, policy', async () => {
    for (const { name } of WUYING) {
      const bad = { ...wuyingCalls[name]?.(things), RegionId: 'mars-1' }
      await wuyingRefuses(root, name, bad, [404, 'InvalidRegionId.NotFound'], /Use one of cn-hangzhou, /)
    }
    for (const name of ['StartDesktops', 'StopDesktops', 'DeleteDesktops']) {
      for (const id of [vm, 'ecd-short', 'nonsense', `m-${NOTHING}`]) {
        const bad = { RegionId: HOME, 'DesktopId.1': running, 'DesktopId.2': id }
        await wuyingRefuses(root, name, bad, [404, 'InvalidDesktopId.NotFound'], /List/)
      }
    }
    const noImage = { RegionId: HOME, DesktopId: vm }
    await wuyingRefuses(root, 'CreateImage', noImage, [404, 'InvalidDesktopId.NotFound'], /List/)
    // It is there, but elsewhere.
    await wuyingRefuses(root, 'CreateImage', { RegionId: AWAY, DesktopId: running }, [
      404,
      'InvalidDesktopId.NotFound',
    ])
    for (const id of [img, 'm-x', '../../etc/passwd', "' or 1=1 --"]) {
      const bad = { RegionId: HOME, 'ImageId.1': image, 'ImageId.2': id }
      await wuyingRefuses(root, 'DeleteImages', bad, [404, 'InvalidImageId.NotFound'], /List/)
      const attachment = JSON.stringify({ ImageId: id, DesktopType: DESKTOP_TYPE })
      const create = { RegionId: HOME, DesktopAttachment: attachment }
      await wuyingRefuses(root, 'CreateDesktops', create, [404, 'InvalidImageId.NotFound'])
    }

    for (const { name, parameters } of UHOST) {
      const all = uhostCalls[name]?.(things) ?? {}
      if (!('Region' in parameters)) continue
      await uhostRefuses(
        root,
        name,
        { ...all, Region: 'mars-1' },
        230,
        /^Params \[Region\] not available: .*Use one of/,
      )
      await uhostRefuses(
        root,
        name,
        { ...all, Zone: 'mars-1-01' },
        230,
        /^Params \[Zone\] not available: .* only /,
      )
      for (const id of ['org-unknown', 'org-UPPER', 'nonsense']) {
        await uhostRefuses(
          root,
          name,
          { ...all, ProjectId: id },
          292,
          /^Project not exists: .*list of projects/,
        )
      }
      for (const [field, value, codes] of [
        ['ImageId', `uimage-${NOTHING}`, [8956, 8846, 8971]],
        ['SourceImageId', `uimage-${NOTHING}`, 8956],
        ['UHostId', `uhost-${NOTHING}`, 8039],
        ['TargetProjectId', 'org-unknown', 292],
        ['TargetRegion', 'mars-1', 230],
      ] as const) {
        // Describe operations filter: what is not there is not listed.
        if (!parameters[field] || name.startsWith('Describe')) continue
        await uhostRefuses(root, name, { ...all, [field]: value }, codes)
      }
    }
    const batch = { ...where, SourceImageId: image, TargetProjectId: own }
    const list = { ...batch, 'TargetRegionList.0': AWAY, 'TargetRegionList.1': 'mars-1' }
    await uhostRefuses(root, 'CopyCustomImage', list, 230, /TargetRegionList\.1/)
    const twice = { ...batch, 'TargetRegionList.0': AWAY, 'TargetRegionList.1': AWAY }
    await uhostRefuses(root, 'CopyCustomImage', twice, 230)
    await uhostRefuses(root, 'CopyCustomImage', { ...batch, TargetRegion: HOME }, 8962, /another region/)
    const fromBase = { ...batch, SourceImageId: base, TargetRegion: AWAY }
    await uhostRefuses(root, 'CopyCustomImage', fromBase, 8956, /custom/)
    await uhostRefuses(root, 'TerminateCustomImage', { ...where, ImageId: base }, 8956)
    await uhostRefuses(root, 'GetImageCopyProgress', { ...where, ImageId: image }, 8971)
    const deleteBase = { RegionId: HOME, 'ImageId.1': base }
    await wuyingRefuses(root, 'DeleteImages', deleteBase, [403, 'SystemImageNotSupported'])
    const copy = wuyingCalls.CopyImage?.(things) ?? {}
    for (const [change, expected] of [
      [{ ImageId: base }, [403, 'SystemImageNotSupported']],
      [{ ImageId: img }, [404, 'InvalidImageId.NotFound']],
      [{ DestinationRegionId: HOME }, [400, 'InvalidDestinationRegionId.Same']],
      [{ DestinationRegionId: 'mars-1' }, [404, 'InvalidDestinationRegionId.NotFound']],
    ] as const)
      await wuyingRefuses(root, 'CopyImage', { ...copy, ...change }, expected)
    for (const [RegionId, ImageId, expected] of [
      [HOME, image, [400, 'ImageCreatedNotFromCopy']],
      [HOME, base, [400, 'ImageCreatedNotFromCopy']],
      [AWAY, image, [404, 'InvalidImageId.NotFound']],
      [AWAY, img, [404, 'InvalidImageId.NotFound']],
    ] as const)
      await wuyingRefuses(root, 'CancelCopyImage', { RegionId, ImageId }, expected)

    for (const { method, path: pattern, fields } of routes) {
      const route = `${method} ${pattern}`
      const call = nativeCalls[route]?.(things) ?? { path: '' }
      const given = call.query ?? call.body ?? {}
      const changed = (change: Record<string, string>): NativeCall =>
        call.body === undefined || call.query !== undefined
          ? { ...call, query: { ...(given as Flat), ...change } }
          : { ...call, body: { ...given, ...change } }
      if ('region' in fields)
        await nativeRefuses(ask(root, route, changed({ region: 'mars-1' })), 404, 'absent', /Use one of/)
      if ('project' in fields)
        await nativeRefuses(
          ask(root, route, changed({ project: 'org-unknown' })),
          404,
          'absent',
          /list of projects/,
        )
      if (!pattern.includes(':id')) continue
      const nowhere = call.path.replace(/-[0-9a-z]{17}/, `-${NOTHING}`)
      await nativeRefuses(ask(root, route, { ...call, path: nowhere }), 404, 'absent', /List/)
      const odd = call.path.replace(/(img|vm|task|s|policy)-[0-9a-z]{17}/, '..%2f..%2fetc%2fpasswd')
      await nativeRefuses(ask(root, route, { ...call, path: odd }), 404, 'absent')
    }
    const attachments = (body: object) => root.native('POST', '/v1/attachments', { body })
    await nativeRefuses(
      attachments({ user: 'nobody', policy: 'AdministratorAccess' }),
      404,
      'absent',
      /Create/,
    )
    await nativeRefuses(
      attachments({ user: 'root', policy: 'nothing' }),
      404,
      'absent',
      /AdministratorAccess/,
    )
    const importing = (fileName: string) =>
      root.native('POST', '/v1/images/import', { body: { region: HOME, fileName, name: 'x' } })
    await nativeRefuses(importing('none.raw'), 404, 'absent', /Put it there first/)
    for (const name of ['../small.raw', '/etc/passwd', '.hidden', 'a/b', 'a\u0000b']) {
      await nativeRefuses(importing(name), 400, 'invalid')
    }
    await nativeRefuses(root.native('GET', '/v1/nothing'), 404, 'absent', /docs\/api\.md/)
    const wrongMethod = await root.native('DELETE', '/v1/regions')
    assert.equal(wrongMethod.status, 405)
    await unchanged()
  })

  await t.test('snapshots that are not there, or that make no image or disk', async () => {
    const region = { RegionId: HOME }
    const none = `s-${NOTHING}`
    for (const id of [none, 's-x', img]) {
      for (const field of ['SnapshotId', 'SnapshotIds.1', 'DataSnapshotIds.1']) {
        const bad = { ...region, [field]: id }
        await wuyingRefuses(root, 'CreateImage', bad, [404, 'InvalidSnapshotId.NotFound'], /List/)
      }
      const bad = { ...region, SnapshotId: id }
      await wuyingRefuses(root, 'ResetSnapshot', bad, [404, 'InvalidSnapshotId.NotFound'], /List/)
    }
    const away = { RegionId: AWAY, SnapshotId: snapshot }
    await wuyingRefuses(root, 'CreateImage', away, [404, 'InvalidSnapshotId.NotFound'])
    const notData = { ...region, 'DataSnapshotIds.1': snapshot }
    await wuyingRefuses(root, 'CreateImage', notData, [400, 'InvalidDataSnapshotIds.NotDataDisk'])
    const others = { ...region, SnapshotId: snapshot, DesktopId: slow }
    await wuyingRefuses(root, 'CreateImage', others, [400, 'InvalidSnapshotIds.SeveralDesktops'])
    const noData = { ...region, DesktopId: running, SnapshotName: 'data', SourceDiskType: 'DATA' }
    await wuyingRefuses(root, 'CreateSnapshot', noData, [404, 'InvalidSourceDiskType.NotFound'])
    const runs = { ...region, SnapshotId: snapshot }
    await wuyingRefuses(root, 'ResetSnapshot', runs, [400, 'IncorrectDesktopStatus'])
    // What is not there need not be deleted.
    await good(root.wuying('DeleteSnapshot', { ...region, 'SnapshotId.1': none, 'SnapshotId.2': 's-x' }))

    const host = { ...where, UHostId: running, ImageName: 'linked' }
    await uhostRefuses(root, 'CreateCustomImage', { ...host, 'DataUDiskIds.0': `bs-${NOTHING}` }, 17041)
    const { UHostSet } = await good<{ UHostSet: readonly { DiskSet: readonly { DiskId: string }[] }[] }>(
      root.uhost('DescribeUHostInstance', { ...where, 'UHostIds.0': running }),
    )
    const boot = UHostSet[0]?.DiskSet[0]?.DiskId ?? ''
    await uhostRefuses(root, 'CreateCustomImage', { ...host, 'DataUDiskIds.0': boot }, 230, /DataUDiskIds/)
    const disks = { 'Disks.0.IsBoot': 'True', 'Disks.0.Type': 'CLOUD_SSD', 'Disks.0.Size': '4' }
    const data = { 'Disks.1.IsBoot': 'False', 'Disks.1.Type': 'CLOUD_SSD', 'Disks.1.Size': '4' }
    const launch = { ...uhostCalls.CreateUHostInstance?.(things), ...disks }
    const ofNone = { ...launch, ...data, 'Disks.1.SnapshotId': none }
    await uhostRefuses(root, 'CreateUHostInstance', ofNone, 17045)
    await uhostRefuses(root, 'CreateUHostInstance', { ...launch, 'Disks.0.SnapshotId': snapshot }, 230)
    await unchanged()
  })

  await t.test('the wrong state of a machine or an image', async () => {
    const expected = [400, 'IncorrectDesktopStatus'] as const
    const desktop = { RegionId: HOME, 'DesktopId.1': running }
    await wuyingRefuses(
      root,
      'StartDesktops',
      desktop,
      expected,
      /running; to start it, it has to be stopped/,
    )
    await uhostRefuses(root, 'StartUHostInstance', { ...where, UHostId: running }, 8905, /has to be stopped/)
    await uhostRefuses(
      root,
      'TerminateUHostInstance',
      { ...where, UHostId: running },
      8856,
      /has to be stopped/,
    )
    await nativeRefuses(
      root.native('POST', `/v1/machines/${running}/start`, { query: { region: HOME } }),
      409,
      'conflict',
      /has to be stopped/,
    )
    await unchanged()

    // Two captures that would never end hold both places of such work, so that what comes behind them waits.
    const begin = async (machineId: string) =>
      good<{ imageId: string; taskId: string }>(
        root.native('POST', '/v1/images/capture', { body: { region: HOME, machineId, name: 'slow' } }),
      )
    const [first, second] = [await begin(slow), await begin(slower)]
    const making = { ...where, TargetProjectId: own, TargetRegion: AWAY, SourceImageId: first.imageId }
    await uhostRefuses(root, 'CopyCustomImage', making, 8961, /once it is available/)
    const copyMaking = { ...wuyingCalls.CopyImage?.(things), ImageId: first.imageId }
    await wuyingRefuses(root, 'CopyImage', copyMaking, [400, 'IncorrectImageStatus'], /once it is available/)
    const attachment = JSON.stringify({ ImageId: first.imageId, DesktopType: DESKTOP_TYPE })
    const create = { RegionId: HOME, DesktopAttachment: attachment }
    await wuyingRefuses(root, 'CreateDesktops', create, [400, 'IncorrectImageStatus'], /once it is available/)
    const again = { RegionId: HOME, DesktopId: slow }
    await wuyingRefuses(root, 'CreateImage', again, expected, /Wait until that has ended, or cancel it/)
    await uhostRefuses(root, 'CreateCustomImage', { ...where, UHostId: slow, ImageName: 'x' }, 8010)

    // An import whose file is gone by the time it is its turn fails.
    const file = join(place.importDirectory, 'gone.raw')
    await writeFile(file, Buffer.alloc(4096))
    const body = { region: HOME, fileName: 'gone.raw', name: 'gone' }
    const lost = await good<{ imageId: string; taskId: string }>(
      root.native('POST', '/v1/images/import', { body }),
    )
    await rm(file)
    for (const { imageId } of [first, second]) {
      await good(root.wuying('DeleteImages', { RegionId: HOME, 'ImageId.1': imageId }))
    }
    const failed = await taskEnd(root, lost.taskId)
    assert.equal(failed.state, 'failed')
    assert.match(failed.reason ?? '', /Put it there again/)
    const shown = await good<ShownImage>(
      root.native('GET', `/v1/images/${lost.imageId}`, { query: { region: HOME } }),
    )
    assert.equal(shown.state, 'failed')
    const dead = { ...making, SourceImageId: lost.imageId }
    await uhostRefuses(root, 'CopyCustomImage', dead, 8961, /The image is failed/)
    await nativeRefuses(
      root.native('POST', `/v1/images/${lost.imageId}/copy`, {
        body: { region: HOME, targetRegions: [AWAY] },
      }),
      409,
      'conflict',
    )
    await good(root.native('DELETE', `/v1/images/${lost.imageId}`, { query: { region: HOME } }))

    // A machine that is being deleted: its turn comes only after a hundred others were made.
    await good(
      root.wuying('CreateDesktops', {
        ...wuyingCalls.CreateDesktops?.(things),
        Amount: '100',
        DesktopName: 'crowd',
      }),
    )
    await good(root.wuying('DeleteDesktops', { RegionId: HOME, 'DesktopId.1': doomed }))
    const late = { RegionId: HOME, DesktopId: doomed }
    await wuyingRefuses(root, 'CreateImage', late, expected, /being deleted/)
    await uhostRefuses(
      root,
      'CreateCustomImage',
      { ...where, UHostId: doomed, ImageName: 'x' },
      8010,
      /being deleted/,
    )
    await wuyingRefuses(root, 'StartDesktops', { RegionId: HOME, 'DesktopId.1': doomed }, expected)
    await uhostRefuses(root, 'TerminateUHostInstance', { ...where, UHostId: doomed }, 8856)
    await until('the crowd runs', async () => {
      const query = { region: HOME, states: 'creating' }
      const { total } = await good<{ total: number }>(root.native('GET', '/v1/machines', { query }))
      return total === 0 || undefined
    })
    await idle(place.server)
    await wuyingRefuses(root, 'CreateImage', late, [404, 'InvalidDesktopId.NotFound'])
    // Of a stopped machine an image can be made, but its plug cannot be pulled.
    await good(root.uhost('PoweroffUHostInstance', { ...where, UHostId: running }))
    await untilState(root, running, 'stopped')
    await uhostRefuses(root, 'StopUHostInstance', { ...where, UHostId: running }, 8905, /has to be running/)
    await uhostRefuses(root, 'PoweroffUHostInstance', { ...where, UHostId: running }, 8905)
    await wuyingRefuses(root, 'StopDesktops', { RegionId: HOME, 'DesktopId.1': running }, expected)
  })
  await cancelAll(root)
})
