import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { ACTIONS } from '../../app/actions.ts'
import { describeRoutes } from './api-doc.ts'
import { STATUS } from './errors.ts'
import { routes } from './routes/index.ts'

const text = readFileSync(new URL('../../../docs/api.md', import.meta.url), 'utf8')

test('docs/api.md describes exactly the routes that there are', () => {
  const described = text.slice(text.indexOf('### '))
  assert.equal(described, describeRoutes(routes))
})

test('docs/api.md names the HTTP status of every kind of fault', () => {
  for (const [kind, status] of Object.entries(STATUS)) {
    assert.match(text, new RegExp(`^\\| ${kind} \\| ${status}\\b`, 'm'))
  }
})

test('every route asks for a right that has a native name, and its path names are fields', () => {
  const seen = new Set<string>()
  for (const route of routes) {
    assert.ok('native' in ACTIONS[route.useCase], `${route.method} ${route.path}`)
    for (const [, name] of route.path.matchAll(/:(\w+)/g)) assert.ok(route.fields[name ?? ''] !== undefined)
    const key = `${route.method} ${route.path}`
    assert.ok(!seen.has(key), key)
    seen.add(key)
  }
})
