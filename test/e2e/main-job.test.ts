import assert from 'node:assert/strict'
import { test } from 'node:test'
import PopCore from '@alicloud/pop-core'
import type { Call } from '../../demo/clients.ts'
import type { Server } from '../../demo/server.ts'
import {
  createImage,
  findImage,
  importBase,
  launchDesktop,
  launchHost,
  waitForCopy,
} from '../../demo/steps.ts'
import { newPlace } from './harness.ts'

/** WUYING through the older official client: V1 signature, GET, everything in the query. */
function popCore(server: Server): Call {
  const client = new PopCore({ ...server.key, endpoint: server.endpoint.origin, apiVersion: '2020-09-30' })
  return (action, parameters) => client.request(action, parameters, { method: 'GET' })
}

function assertRises(seen: readonly number[]): void {
  assert.deepEqual(
    [...seen].sort((a, b) => a - b),
    seen,
    'progress never goes back',
  )
  assert.equal(seen.at(-1), 100, 'an Available image is at 100 %')
}

test('the main job: capture through WUYING, copy and launch through UHost, the same bytes in the end', async (t) => {
  const { server } = await newPlace(t)
  const base = await importBase(server, 'cn-hangzhou', 'base')
  const source = await launchDesktop(server, 'cn-hangzhou', base.id, 'source')
  await source.console.run('echo first > /home/demo/story.txt; sync')

  const v3 = await createImage(server.wuying, 'cn-hangzhou', {
    DesktopId: source.desktopId,
    ImageName: 'by-v3',
  })
  assertRises(v3.seen)
  await source.console.run('echo second > /home/demo/story.txt; sync')
  const v1 = await createImage(popCore(server), 'cn-hangzhou', {
    DesktopId: source.desktopId,
    ImageName: 'by-v1',
  })
  assertRises(v1.seen)
  // The guest kept running through both captures, and kept what it wrote.
  assert.equal(await source.console.run('cat /home/demo/story.txt'), 'second')

  // One image model: what WUYING made, UHost lists, with the same characters behind its own prefix.
  const { ProjectSet } = (await server.uhost('GetProjectList', {})) as {
    ProjectSet: { ProjectId: string; IsDefault: boolean }[]
  }
  const own = ProjectSet.find((project) => project.IsDefault)?.ProjectId ?? ''
  const listed = (await server.uhost('DescribeImage', {
    Region: 'cn-hangzhou',
    ImageId: v3.imageId.replace(/^m-/, 'uimage-'),
  })) as { ImageSet: { ImageName: string; State: string; ImageType: string }[] }
  assert.deepEqual(
    listed.ImageSet.map(({ ImageName, State, ImageType }) => ({ ImageName, State, ImageType })),
    [{ ImageName: 'by-v3', State: 'Available', ImageType: 'Custom' }],
  )

  const batch = (await server.uhost('CopyCustomImage', {
    Region: 'cn-hangzhou',
    SourceImageId: v3.imageId,
    TargetProjectId: own,
    TargetRegionList: ['cn-bj2', 'hk'],
    TargetImageName: 'copied',
  })) as { Infos: { TargetRegion: string; TargetImageId: string; TaskId: string }[] }
  assert.deepEqual(batch.Infos.map((info) => info.TargetRegion).sort(), ['cn-bj2', 'hk'])
  for (const info of batch.Infos) await waitForCopy(server, info.TargetRegion, own, info.TargetImageId)
  const away = batch.Infos.find((info) => info.TargetRegion === 'cn-bj2')?.TargetImageId ?? ''

  const { project: other } = await server.native.call<{ project: string }>('POST', '/v1/projects', {
    body: { name: 'Second team' },
  })
  const single = (await server.uhost('CopyCustomImage', {
    Region: 'cn-bj2',
    SourceImageId: away,
    TargetProjectId: other,
  })) as { TargetImageId: string }
  await waitForCopy(server, 'cn-bj2', other, single.TargetImageId)

  const first = await findImage(server, 'cn-hangzhou', v3.imageId)
  const copies = [
    ...(await Promise.all(
      batch.Infos.map((info) => findImage(server, info.TargetRegion, info.TargetImageId)),
    )),
    await findImage(server, 'cn-bj2', single.TargetImageId, other),
  ]
  for (const copy of copies) assert.equal(copy.digest, first.digest)
  assert.equal(copies.at(-1)?.movedBytes, 0, 'a copy inside a region moves nothing')
  assert.notEqual((await findImage(server, 'cn-hangzhou', v1.imageId)).digest, first.digest)

  // From the copy in the other project, after its source is gone: a copy stands on its own.
  await server.uhost('TerminateCustomImage', { Region: 'cn-bj2', ImageId: away })
  const place = { region: 'cn-bj2', zone: 'cn-bj2-02', project: other }
  const host = await launchHost(server, place, single.TargetImageId, 'from-copy')
  assert.equal(await host.console.run('cat /home/demo/story.txt'), 'first')

  // A stopped machine is captured as well, and what WUYING lists came from UHost.
  await server.uhost('StopUHostInstance', { Region: 'cn-bj2', ProjectId: other, UHostId: host.hostId })
  for (;;) {
    const { UHostSet } = (await server.uhost('DescribeUHostInstance', {
      Region: 'cn-bj2',
      ProjectId: other,
      UHostIds: [host.hostId],
    })) as { UHostSet: { State: string }[] }
    if (UHostSet[0]?.State === 'Stopped') break
  }
  const stopped = (await server.uhost('CreateCustomImage', {
    Region: 'cn-bj2',
    ProjectId: other,
    UHostId: host.hostId,
    ImageName: 'of-a-stopped-host',
  })) as { ImageId: string }
  for (;;) {
    const { ImageSet } = (await server.uhost('DescribeImage', {
      Region: 'cn-bj2',
      ProjectId: other,
      ImageId: stopped.ImageId,
    })) as { ImageSet: { State: string }[] }
    assert.notEqual(ImageSet[0]?.State, 'Unavailable')
    if (ImageSet[0]?.State === 'Available') break
  }
})
