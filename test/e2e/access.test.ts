import assert from 'node:assert/strict'
import { readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { stopServer } from '../../demo/server.ts'
import { routes } from '../../src/wire/native/routes/index.ts'
import { OPERATIONS as UHOST } from '../../src/wire/uhost/operations/index.ts'
import { OPERATIONS as WUYING } from '../../src/wire/wuying/operations/index.ts'
import { everyCallIsGood } from './access-good.ts'
import { deleteMachines, idle } from './harness.ts'
import { auditOf, type Outcome } from './ledger.ts'
import { allow, cleanImage, deny, importBase, openOffice, type Statement } from './office.ts'
import { personOf, taskEnd } from './small-place.ts'
import {
  AWAY,
  DESKTOP_TYPE,
  HOME,
  nativeCalls,
  PASSWORD,
  type Things,
  uhostCalls,
  wuyingCalls,
} from './valid-calls.ts'

test('who may do what', async (t) => {
  const office = await openOffice(t)
  const { place, ledger, root, project } = office
  const base = await importBase(office)
  const machines = await office.machines(base, 40)
  const take = () => {
    const id = machines.pop()
    assert(id !== undefined, 'there are machines enough')
    return id
  }
  const keeper = take()
  const image = await office.capture(keeper)
  const copied = await root.native(
    'POST /v1/images/:id/copy',
    { path: `/v1/images/${image}/copy`, body: { region: HOME, targetRegions: [AWAY] } },
    'done',
  )
  const [{ imageId: copy = '', taskId: copyTask = '' } = {}] = copied.json.copies as Record<string, string>[]
  await taskEnd(personOf(place), copyTask)
  const cleaned = await cleanImage(office, image)
  const made = await root.native(
    'POST /v1/projects',
    { path: '/v1/projects', body: { name: 'Other' } },
    'done',
  )
  const other = String(made.json.project)
  const still = {
    ...{ project, otherProject: other, base: () => base, image: () => image, copy: () => copy },
    cleaned: () => cleaned,
  }
  const someone = await office.newUser()

  await t.test('ecd:CreateImage alone is that alone, at every operation of every door', async () => {
    const { name, clerk } = await office.newUser()
    await office.putPolicy('only-create-image', [allow('ecd:CreateImage')])
    await office.attach(name, 'only-create-image')
    const things: Things = {
      ...still,
      copying: () => copy,
      copyTask: () => copyTask,
      cancelledCopy: () => copyTask,
      running: () => keeper,
      stopped: () => keeper,
      snapshot: () => `s-${'0'.repeat(17)}`,
      policy: () => `policy-${'0'.repeat(17)}`,
      upload: () => '0'.repeat(17),
      task: () => copyTask,
      webhook: () => 'nothing',
      rule: () => 'nothing',
      user: () => someone.name,
    }
    assert.deepEqual(Object.keys(wuyingCalls).sort(), WUYING.map((one) => one.name).sort())
    assert.deepEqual(Object.keys(uhostCalls).sort(), UHOST.map((one) => one.name).sort())
    assert.deepEqual(Object.keys(nativeCalls).sort(), routes.map((one) => `${one.method} ${one.path}`).sort())
    for (const [operation, call] of Object.entries(wuyingCalls)) {
      const outcome: Outcome = operation === 'CreateImage' ? 'done' : 'denied policy'
      await clerk.wuying(operation, call(things), outcome)
    }
    for (const [operation, call] of Object.entries(uhostCalls)) {
      await clerk.uhost(operation, call(things), 'denied policy')
    }
    for (const [route, call] of Object.entries(nativeCalls)) {
      await clerk.native(route, call(things), 'denied policy')
    }
    // What names nothing is no way around the question of the right.
    const nothing = { region: HOME, ids: 'img-nothing' }
    await clerk.native('GET /v1/images', { path: '/v1/images', query: nothing }, 'denied policy')
    await clerk.native('GET /v1/machines', { path: '/v1/machines', query: nothing }, 'denied policy')
    await idle(place.server)
  })

  await t.test('the same calls are good for one who has the right', () =>
    everyCallIsGood(office, { base, keeper, someone: someone.name, take, still }),
  )

  await t.test('policies: order, wildcards, resources, conditions', async () => {
    const { name, clerk } = await office.newUser()
    await office.putPolicy('tried', [deny('*')])
    await office.attach(name, 'tried')
    const looks = (outcome: Outcome) => clerk.wuying('DescribeImages', { RegionId: HOME }, outcome)
    const cases: readonly (readonly [readonly Statement[], Outcome])[] = [
      [[allow('*')], 'done'],
      [[allow('ecd:*')], 'done'],
      [[allow('ecd:Describe*')], 'done'],
      [[allow('ECD:describeimages')], 'done'],
      [[allow('ecd:D?scribe?mage*')], 'done'],
      [[allow(['ecd:CreateImage', '*:DescribeImages'])], 'done'],
      [[allow('ecd:DescribeImage')], 'denied policy'],
      [[allow('ecd:?escribe')], 'denied policy'],
      [[allow('uhost:*')], 'denied policy'],
      [[{ Effect: 'Allow', NotAction: 'ecd:Delete*', Resource: '*' }], 'done'],
      [[{ Effect: 'Allow', NotAction: 'ecd:Describe*', Resource: '*' }], 'denied policy'],
      [[allow('*'), deny('ecd:DescribeImages')], 'denied policy'],
      [[deny('ecd:DescribeImages'), allow('*')], 'denied policy'],
      [[deny('ecd:Describe*'), allow('ecd:DescribeImages')], 'denied policy'],
      [[allow('*'), deny('ecd:DescribeDesktops')], 'done'],
      [[allow('ecd:*', 'acs:ecd:*:*:*')], 'done'],
      [[allow('ecd:*', `acs:ecd:${HOME}:*:*`)], 'done'],
      [[allow('ecd:*', `acs:ecd:${AWAY}:*:*`)], 'denied policy'],
      [[allow('ecd:*', 'ucs:uhost:*:*:*')], 'denied policy'],
      [[{ ...allow('ecd:*'), Condition: { IpAddress: { 'acs:SourceIp': '127.0.0.0/8' } } }], 'done'],
      [[{ ...allow('ecd:*'), Condition: { IpAddress: { 'acs:SourceIp': '10.0.0.0/8' } } }], 'denied policy'],
      [
        [{ ...allow('ecd:*'), Condition: { NotIpAddress: { 'acs:SourceIp': '127.0.0.1' } } }],
        'denied policy',
      ],
      [
        [allow('ecd:*'), { ...deny('*'), Condition: { Bool: { 'acs:SecureTransport': 'false' } } }],
        'denied policy',
      ],
    ]
    for (const [statements, outcome] of cases) {
      await office.putPolicy('tried', statements)
      const { json } = await looks(outcome)
      if (outcome === 'done') continue
      const isExplicit = statements.some((one) => one.Effect === 'Deny')
      const { NoPermissionType } = json.AccessDeniedDetail as Record<string, string>
      assert.equal(NoPermissionType, isExplicit ? 'ExplicitDeny' : 'ImplicitDeny')
    }

    // One region alone: also not out of it.
    await office.putPolicy('tried', [allow('uhost:*', `ucs:uhost:${HOME}:*:*`)])
    await clerk.uhost('DescribeImage', { Region: HOME, ProjectId: project }, 'done')
    await clerk.uhost('DescribeImage', { Region: AWAY, ProjectId: project }, 'denied policy')
    const copyAway = { Region: HOME, ProjectId: project, SourceImageId: image, TargetProjectId: project }
    await clerk.uhost('CopyCustomImage', { ...copyAway, TargetRegion: AWAY }, 'denied policy')

    // One image alone, by the name that the door gives it.
    const first = (await office.capture(keeper)).replace('img-', 'm-')
    const second = (await office.capture(keeper)).replace('img-', 'm-')
    const both = { 'ImageId.1': first, 'ImageId.2': second }
    await office.putPolicy('tried', [allow('ecd:*', `acs:ecd:*:*:image/${first}`)])
    await clerk.wuying('DescribeImages', { RegionId: HOME, 'ImageId.1': first }, 'done')
    await clerk.wuying('DescribeImages', { RegionId: HOME, ...both }, 'denied policy')
    await looks('denied policy')
    await clerk.wuying('DeleteImages', { RegionId: HOME, 'ImageId.1': second }, 'denied policy')
    await clerk.wuying('DeleteImages', { RegionId: HOME, ...both }, 'denied policy')
    await clerk.wuying('DeleteImages', { RegionId: HOME, 'ImageId.1': first }, 'done')
    // One image denied: a batch that holds it is denied as a whole.
    const third = (await office.capture(keeper)).replace('img-', 'm-')
    await office.putPolicy('tried', [allow('*'), deny('*', `acs:ecd:*:*:image/${second}`)])
    await clerk.wuying(
      'DeleteImages',
      { RegionId: HOME, 'ImageId.1': second, 'ImageId.2': third },
      'denied policy',
    )
    await clerk.wuying('DeleteImages', { RegionId: HOME, 'ImageId.1': second }, 'denied policy')
    await clerk.wuying('DeleteImages', { RegionId: HOME, 'ImageId.1': third }, 'done')
    // One host denied, as UHost calls it.
    const hostId = keeper.replace('vm-', 'uhost-')
    await office.putPolicy('tried', [allow('*'), deny('*', `ucs:uhost:*:*:instance/${hostId}`)])
    const host = { Region: HOME, ProjectId: project, UHostId: hostId }
    await clerk.uhost('StopUHostInstance', host, 'denied policy')
    await clerk.uhost('CreateCustomImage', { ...host, ImageName: 'no' }, 'denied policy')
    await clerk.wuying('DeleteImages', { RegionId: HOME, 'ImageId.1': second }, 'done')
  })

  await t.test('projects: what is in another one is as if it were not there', async () => {
    const [machine = ''] = await office.machines(base, 1, other)
    const foreign = await office.capture(machine, other)
    const there = await root.native('GET /v1/tasks', { path: '/v1/tasks', query: { project: other } }, 'done')
    const foreignTask = (there.json.tasks as { id: string }[])[0]?.id ?? ''

    const insider = await office.newUser()
    for (const policy of ['UHostFullAccess', 'CalotypeFullAccess', 'AliyunECDFullAccess']) {
      await office.attach(insider.name, policy, project)
    }
    const { clerk } = insider
    const unknown = `img-${'0'.repeat(17)}`
    const nobody = `vm-${'0'.repeat(17)}`

    await clerk.uhost('DescribeImage', { Region: HOME, ProjectId: other }, 'denied project')
    await clerk.uhost('DescribeImage', { Region: HOME, ProjectId: 'org-unknown' }, 'absent project')
    await clerk.native('GET /v1/images', { path: '/v1/images', query: { project: other } }, 'denied project')
    await clerk.native('GET /v1/tasks', { path: '/v1/tasks', query: { project: other } }, 'denied project')
    const missing = await personOf(place, insider.key).uhost('DescribeImage', { Region: HOME })
    assert.deepEqual([missing.json.RetCode, missing.json.Message], [220, 'Missing params [ProjectId]'])
    const listed = await clerk.uhost('GetProjectList', {}, 'done')
    assert.deepEqual(
      (listed.json.ProjectSet as { ProjectId: string }[]).map((one) => one.ProjectId),
      [project],
    )

    /** The answers about a thing of another project and about nothing at all differ in nothing. */
    const same = (left: { text: string }, right: { text: string }) => {
      const plain = ({ text }: { text: string }) =>
        text
          .replace(/"(RequestId|requestId)":"[^"]*"/, '')
          .replace(/requestId=[0-9A-F-]+/, '')
          .replace(/(img|vm|m|ecd|uimage|uhost|task)-[0-9a-z]{17}/g, 'ID')
      assert.equal(plain(left), plain(right))
    }
    const where = { Region: HOME, ProjectId: project }
    const target = { TargetProjectId: project, TargetRegion: AWAY }
    const creation = { Zone: 'cn-hangzhou-h', LoginMode: 'ImagePasswd' }
    for (const [operation, field, rest] of [
      ['CopyCustomImage', 'SourceImageId', target],
      ['GetImageCopyProgress', 'ImageId', {}],
      ['TerminateCustomImage', 'ImageId', {}],
      ['CreateUHostInstance', 'ImageId', creation],
    ] as const) {
      const ask = (id: string) => clerk.uhost(operation, { ...where, ...rest, [field]: id }, 'absent image')
      same(await ask(foreign), await ask(unknown))
    }
    for (const operation of ['Start', 'Stop', 'Poweroff', 'Terminate'].map(
      (verb) => `${verb}UHostInstance`,
    )) {
      const ask = (id: string) => clerk.uhost(operation, { ...where, UHostId: id }, 'absent machine')
      same(await ask(machine), await ask(nobody))
    }
    await clerk.uhost('CreateCustomImage', { ...where, UHostId: machine, ImageName: 'no' }, 'absent machine')
    const images = await clerk.uhost('DescribeImage', { ...where, ImageId: foreign }, 'done')
    assert.equal(images.json.TotalCount, 0)
    const hosts = await clerk.uhost('DescribeUHostInstance', { ...where, 'UHostIds.0': machine }, 'done')
    assert.equal(hosts.json.TotalCount, 0)

    for (const operation of ['StartDesktops', 'StopDesktops', 'DeleteDesktops']) {
      const ask = (id: string) =>
        clerk.wuying(operation, { RegionId: HOME, 'DesktopId.1': id }, 'absent machine')
      same(await ask(machine), await ask(nobody))
    }
    await clerk.wuying('CreateImage', { RegionId: HOME, DesktopId: machine }, 'absent machine')
    await clerk.wuying('DeleteImages', { RegionId: HOME, 'ImageId.1': foreign }, 'absent image')
    const copyOut = { RegionId: HOME, DestinationRegionId: AWAY, DestinationImageName: 'no' }
    for (const [operation, rest] of [
      ['CopyImage', copyOut],
      ['CancelCopyImage', { RegionId: HOME }],
    ] as const) {
      const ask = (id: string) => clerk.wuying(operation, { ...rest, ImageId: id }, 'absent image')
      same(await ask(foreign), await ask(unknown))
    }
    const attachment = JSON.stringify({ ImageId: foreign, DesktopType: DESKTOP_TYPE })
    await clerk.wuying('CreateDesktops', { RegionId: HOME, DesktopAttachment: attachment }, 'absent image')
    const seen = await clerk.wuying('DescribeImages', { RegionId: HOME, 'ImageId.1': foreign }, 'done')
    assert.deepEqual(seen.json.Images, [])

    const query = { region: HOME }
    for (const [route, path, outcome] of [
      ['GET /v1/images/:id', `/v1/images/${foreign}`, 'absent image'],
      ['DELETE /v1/images/:id', `/v1/images/${foreign}`, 'absent image'],
      ['POST /v1/images/:id/copy', `/v1/images/${foreign}/copy`, 'absent image'],
      ['POST /v1/images/:id/copy/plan', `/v1/images/${foreign}/copy/plan`, 'absent image'],
      ['POST /v1/images/:id/clean', `/v1/images/${foreign}/clean`, 'absent image'],
      ['POST /v1/images/:id/clean/plan', `/v1/images/${foreign}/clean/plan`, 'absent image'],
      ['GET /v1/images/:id/report', `/v1/images/${foreign}/report`, 'absent image'],
      ['GET /v1/machines/:id', `/v1/machines/${machine}`, 'absent machine'],
      ['POST /v1/machines/:id/start', `/v1/machines/${machine}/start`, 'absent machine'],
      ['POST /v1/machines/:id/stop', `/v1/machines/${machine}/stop`, 'absent machine'],
      ['DELETE /v1/machines/:id', `/v1/machines/${machine}`, 'absent machine'],
      ['GET /v1/machines/:id/console', `/v1/machines/${machine}/console`, 'absent machine'],
    ] as const) {
      const twin = path.replace(/-[0-9a-z]{17}/, `-${'0'.repeat(17)}`)
      same(
        await clerk.native(route, { path, query }, outcome),
        await clerk.native(route, { path: twin, query }, outcome),
      )
    }
    // A task of a project without any right there: the call is recorded as denied, and answered as absent.
    const hidden = await personOf(place, insider.key).native('GET', `/v1/tasks/${foreignTask}`)
    same(hidden, await personOf(place, insider.key).native('GET', `/v1/tasks/task-${'0'.repeat(17)}`))
    assert.equal(hidden.status, 404)
    const kept = await personOf(place, insider.key).native('DELETE', `/v1/tasks/${foreignTask}`)
    assert.equal(kept.status, 404)
    ledger.entries.push({ door: 'native', action: 'calotype:CancelTask', outcome: 'denied project' })
    for (const [method, path, body, action] of [
      ['PATCH', '', { priority: 1 }, 'calotype:ChangeTask'],
      ['POST', '/retry', {}, 'calotype:RetryTask'],
    ] as const) {
      const { status } = await personOf(place, insider.key).native(
        method,
        `/v1/tasks/${foreignTask}${path}`,
        {
          body,
        },
      )
      assert.equal(status, 404)
      ledger.entries.push({ door: 'native', action, outcome: 'denied project' })
    }

    // Out of the own project into one without a right there, or into none.
    const copyInto = { ...where, SourceImageId: image, TargetRegion: HOME }
    await clerk.uhost('CopyCustomImage', { ...copyInto, TargetProjectId: other }, 'denied project')
    await clerk.uhost('CopyCustomImage', { ...copyInto, TargetProjectId: 'org-unknown' }, 'absent project')
    const body = { region: HOME, targetProject: other }
    const path = `/v1/images/${image}/copy`
    await clerk.native('POST /v1/images/:id/copy', { path, body }, 'denied project')
    const rest = await root.native(
      'GET /v1/images',
      { path: '/v1/images', query: { region: HOME, project: other, kinds: 'custom' } },
      'done',
    )
    assert.deepEqual(
      (rest.json.images as { id: string }[]).map(({ id }) => id),
      [foreign],
    )
  })

  await t.test('the right over one project is no right over the account', async () => {
    const { name, clerk, key } = await office.newUser()
    await office.attach(name, 'AdministratorAccess', project)
    const document = { Version: '1', Statement: [allow('*')] }
    for (const [route, path, body] of [
      ['POST /v1/users', '/v1/users', { name: 'accomplice' }],
      ['POST /v1/projects', '/v1/projects', { name: 'mine' }],
      ['PUT /v1/policies/:name', '/v1/policies/only-create-image', { document }],
      ['POST /v1/attachments', '/v1/attachments', { user: name, policy: 'AdministratorAccess' }],
      ['POST /v1/images/import', '/v1/images/import', { fileName: 'small.raw', name: 'b', kind: 'base' }],
    ] as const) {
      await clerk.native(route, { path, body }, 'denied policy')
    }
    const own = { user: someone.name, policy: 'AliyunECDReadOnlyAccess', project }
    await clerk.native('POST /v1/attachments', { path: '/v1/attachments', body: own }, 'done')
    await clerk.native(
      'POST /v1/attachments',
      { path: '/v1/attachments', body: { ...own, project: other } },
      'denied project',
    )
    // What came through a proxy is not believed: the address is that of the connection.
    await office.putPolicy('from-far', [
      { ...allow('*'), Condition: { IpAddress: { 'acs:SourceIp': '203.0.113.9' } } },
    ])
    const far = await office.newUser()
    await office.attach(far.name, 'from-far')
    await far.clerk.wuying('DescribeImages', { RegionId: HOME }, 'denied policy')
    assert.notEqual(key.accessKeySecret, far.key.accessKeySecret)
  })

  await t.test('one audit record for every call that changes something; secrets are nowhere', async () => {
    // Waited for, not cancelled: that would be calls which the ledger does not know.
    await idle(place.server)
    await stopServer(place.server)
    assert.deepEqual(auditOf(place.data), ledger.entries)

    const mode = (name: string) => statSync(join(place.data, name)).mode & 0o777
    assert.equal(mode('.'), 0o700)
    for (const name of ['access-key.json', 'catalog.db', 'domains.key', 'server.log']) {
      assert.equal(mode(name), 0o600, name)
    }
    const log = readFileSync(join(place.data, 'server.log'), 'utf8')
    assert.ok(log.includes('"level":20'), 'the log holds one line a request')
    for (const secret of [...office.secrets, PASSWORD, Buffer.from(PASSWORD, 'base64').toString()]) {
      assert.ok(!log.includes(secret), 'a secret is in the log')
    }
    assert.doesNotMatch(log, /Signature=|"Signature"|[?&]Action=/)
    const catalog = readFileSync(join(place.data, 'catalog.db'))
    assert.ok(!catalog.includes(PASSWORD))
    await place.start()
    await deleteMachines(place.server)
  })
})
