import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { isFault } from '../image/fault.ts'
import { formatAddress } from './addresses.ts'
import { createFetcher } from './fetch.ts'
import { parseAllowed } from './fetch-allow.ts'
import { parseRedirect, parseTarget } from './fetch-url.ts'

const check = (url: string, allow: string[] = []) => createFetcher({ allow }).check({ url })
const refusal = (reason: 'address' | 'url') => (error: unknown) =>
  isFault(error, 'invalid') && error.subject === 'request' && error.reason === reason

test('fetch: every spelling of an internal address is the address', () => {
  for (const host of [
    ...[
      '127.0.0.1',
      '127.1',
      '2130706433',
      '0x7f000001',
      '0x7f.1',
      '017700000001',
      '0177.0.0.1',
      '0x7f.0.0.0x1',
    ],
    ...[
      '127.0.0.1.',
      '127.000.000.001',
      '%31%32%37.0.0.1',
      '１２７.０.０.１',
      '①②⑦.0.0.1',
      '127。0。0。1',
      '0',
      '0.0.0.0',
    ],
    ...[
      '10.0.0.1',
      '0xa.1',
      '192.168.1',
      '3232235777',
      '169.254.169.254',
      '0xa9fea9fe',
      '2852039166',
      '0251.0376.0251.0376',
    ],
    ...[
      '100.100.100.200',
      '100.80.80.80',
      '168.63.129.16',
      '255.255.255.255',
      '224.0.0.1',
      '[::]',
      '[::1]',
      '[0:0::1]',
    ],
    ...[
      '[::ffff:127.0.0.1]',
      '[::ffff:7f00:1]',
      '[::127.0.0.1]',
      '[fe80::1]',
      '[fd00:ec2::254]',
      '[ff02::1]',
      '[2002:7f00:1::]',
    ],
    ...[
      '[64:ff9b::127.0.0.1]',
      '[64:ff9b::a9fe:a9fe]',
      '[2001:0:4136:e378:8000:63bf:3fff:fdd2]',
      '[2001:db8::1]',
      '[fec0::1]',
    ],
    ...['localhost', 'LOCALHOST', 'localhost.', 'a.localhost', 'ｌｏｃａｌｈｏｓｔ'],
  ]) {
    for (const scheme of ['http', 'https']) {
      assert.throws(() => check(`${scheme}://${host}/disk.raw`), refusal('address'), host)
    }
  }
})

test('fetch: what is no plain http or https address is refused', () => {
  for (const url of [
    ...[
      '',
      'x',
      '/etc/passwd',
      'file:///etc/passwd',
      'ftp://example.com/x',
      'gopher://example.com/x',
      'data:,x',
    ],
    ...[
      'blob:http://example.com/x',
      'javascript:1',
      'ws://example.com/',
      'dict://example.com:11111/',
      'HTTP:example.com',
    ],
    ...[
      'http:/example.com/',
      'http:///example.com/',
      'http://',
      'https://?x',
      'http://#',
      '//example.com/',
      'http:\\\\example.com',
    ],
    ...[
      'http://user@example.com/',
      'http://user:secret@example.com/',
      'http://@example.com/',
      'http://:@example.com/',
    ],
    ...['http://example.com@127.0.0.1/', 'http://127.0.0.1@example.com/', 'http://example.com#@127.0.0.1/'],
    ...[
      'http://example.com\\@127.0.0.1/',
      'http://example.com/x#part',
      'http://example.com/#',
      'http://exa mple.com/',
    ],
    ...[
      ' http://example.com/',
      'http://example.com/\n',
      'ht\ttp://example.com/',
      'http://example.com/a\u00a0b',
      'http://a\u0000b/',
    ],
    ...[
      'http://[fe80::1%25eth0]/',
      'http://[fe80::1%eth0]/',
      'http://[::1/',
      'http://1.2.3.4.5/',
      'http://256.1.1.1/',
    ],
    ...[
      'http://1.2.3.0xfffffffff/',
      'http://a..b/',
      'http://.a/',
      'http://a!b/',
      `http://${'a'.repeat(64)}.com/`,
      'http://exa%2fmple.com/',
    ],
    ...[
      `http://${'a.'.repeat(130)}com/`,
      `http://example.com/${'a'.repeat(9000)}`,
      'http://example.com:65536/',
      'http://example.com:-1/',
    ],
    ...['http://example.com:80:80/', 'http://example.com:x/', 'http://%00/', 'http://‮/'],
  ]) {
    assert.throws(() => check(url), refusal('url'), url)
  }
})

test('fetch: an address is shown without what opens it', () => {
  assert.equal(
    check('https://Example.COM:443/a/b.qcow2?X-Signature=secret'),
    'https://example.com/a/b.qcow2?…',
  )
  assert.equal(check('http://bücher.example:8080'), 'http://xn--bcher-kva.example:8080/')
  assert.equal(check('https://93.184.215.14/x'), 'https://93.184.215.14/x')
  assert.equal(check('https://example.com./x'), 'https://example.com./x')
  assert.ok(check(`https://example.com/${'a'.repeat(5000)}`).length < 600)
})

test('fetch: ports of other protocols are closed, also of public hosts', () => {
  for (const port of [0, 1, 22, 25, 110, 143, 389, 2049, 6000, 6667, 10080]) {
    assert.throws(() => check(`http://example.com:${port}/`), refusal('address'))
    assert.throws(() => check(`http://93.184.215.14:${port}/`), refusal('address'))
  }
  assert.throws(() => check('http://93.184.215.14:22/', ['10.0.0.1:22']), refusal('address'))
  for (const port of [80, 443, 8080, 9000, 3000]) assert.ok(check(`http://example.com:${port}/`))
})

test('fetch: what is allowed is exactly what the settings say', () => {
  const allow = [
    '10.1.0.0/16',
    '127.0.0.1:8080',
    '[::1]:8080',
    'fd12::/16',
    'Files.Intern',
    'localhost:9000',
    '10.9.9.9:25',
  ]
  for (const host of [
    '10.1.2.3',
    '10.1.2.3:99',
    '127.1:8080',
    '[::1]:8080',
    '[fd12::5]',
    '[::ffff:10.1.0.1]',
    '10.9.9.9:25',
    'localhost:9000',
  ]) {
    // 99 is a port as any other.
    assert.ok(check(`http://${host}/`, allow), host)
  }
  for (const host of [
    '10.2.0.1',
    '127.0.0.1',
    '127.0.0.1:8081',
    '127.0.0.2:8080',
    '[::1]',
    '[fd13::5]',
    '10.1.2.3:25',
    '10.9.9.9',
    'localhost',
    'localhost:9001',
  ]) {
    assert.throws(() => check(`http://${host}/`, allow), refusal('address'), host)
  }
  // A range is never meant for this; the address itself is.
  assert.throws(() => check('http://169.254.169.254/', ['169.254.0.0/16', '0.0.0.0/0']), refusal('address'))
  assert.throws(() => check('http://100.100.100.200/', ['100.64.0.0/10']), refusal('address'))
  assert.ok(check('http://169.254.169.254/', ['169.254.169.254']))
  for (const entry of [
    '',
    'a/b',
    'http://a',
    'a:0',
    'a:65536',
    'a:b',
    '[a]:1',
    '10.0.0.0/8:80',
    '*',
    '*.example.com',
    'a b',
    '1.2.3',
    '300.1.1.1',
  ]) {
    assert.throws(
      () => parseAllowed(entry),
      (error) => isFault(error, 'invalid') && error.field === 'allow',
      entry,
    )
  }
})

test('fetch: a redirect is read as an address of its own', () => {
  const from = new URL('https://example.com/a/b?q')
  assert.equal(parseRedirect('../c?x#part', from).url.href, 'https://example.com/c?x')
  assert.equal(parseRedirect('//other.example/c', from).url.href, 'https://other.example/c')
  for (const location of [
    'http://example.com/',
    'file:///etc/passwd',
    's3://a/b',
    '//user@example.com/',
    'https://a:b@c/',
    'https:\\\\a',
    '/a b',
    'ftp:x',
    '//[/',
  ]) {
    assert.throws(() => parseRedirect(location, from), refusal('url'), location)
  }
  assert.ok(parseRedirect('https://example.com/', new URL('http://example.com/')))
})

test('fetch: whatever is asked for is a place or a refusal', () => {
  const seed = Date.now() & 0x7fffffff
  console.log(`seed ${seed}`)
  const text = fc.oneof(
    fc.webUrl({ withFragments: true, withQueryParameters: true }),
    fc.string({ unit: 'binary' }).map((end) => `http://${end}`),
    fc
      .array(
        fc.constantFrom(
          'http://',
          '@',
          ':',
          '/',
          '\\',
          '127',
          '.',
          '0x7f',
          '[',
          ']',
          '::1',
          '%',
          '#',
          '?',
          'a',
          '１',
        ),
        { maxLength: 8 },
      )
      .map((parts) => `http://${parts.join('')}`),
  )
  const fetcher = createFetcher({ allow: [] })
  fc.assert(
    fc.property(text, (url) => {
      try {
        const { host, port } = parseTarget(url)
        assert.ok(port >= 0 && port <= 65535)
        if (host.is === 'address') assert.ok(formatAddress(host.address))
        fetcher.check({ url })
      } catch (error) {
        if (!isFault(error, 'invalid')) throw error
        assert.ok(error.reason === 'url' || error.reason === 'address')
      }
    }),
    { seed, numRuns: 5_000 },
  )
})
