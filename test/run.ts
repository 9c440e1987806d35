import { spawn } from 'node:child_process'
import { globSync } from 'node:fs'
import { join } from 'node:path'

/**
 * Runs the tests: all of them, or the files whose path holds one of the names given (`npm test -- nbd store`).
 * Arguments with dashes go to Node's own runner (`npm test -- --test-name-pattern=pause nbd`).
 * Exit code 0 when every test passed, 1 when one failed, 2 when a name fits no file.
 */
const root = join(import.meta.dirname, '..')
const options = process.argv.slice(2).filter((argument) => argument.startsWith('-'))
const names = process.argv.slice(2).filter((argument) => !argument.startsWith('-'))

const all = globSync('{src,test}/**/*.test.ts', { cwd: root }).sort()
for (const name of names) {
  // One mistyped name among several would otherwise look like a pass.
  if (!all.some((file) => file.includes(name))) {
    console.error(
      `No test file has '${name}' in its path. Test files are src/**/*.test.ts and test/**/*.test.ts.`,
    )
    process.exit(2)
  }
}
const files = all.filter((file) => names.length === 0 || names.some((name) => file.includes(name)))
if (files.length === 0) {
  console.error('There are no test files under src and test.')
  process.exit(2)
}

// Two files at a time: tests that boot guests fill both cores of a small machine by themselves.
const runner = spawn(
  process.execPath,
  ['--test', '--test-concurrency=2', '--test-timeout=600000', '--test-reporter=spec', ...options, ...files],
  { cwd: root, stdio: 'inherit' },
)
// Ctrl-C reaches the runner by itself, as a member of the terminal's group; a plain kill does not.
process.on('SIGINT', () => {})
process.on('SIGTERM', () => runner.kill('SIGTERM'))
runner.on('error', (error) => {
  throw error
})
runner.on('exit', (code, signal) => {
  if (signal !== null) console.error(`The tests were stopped by ${signal}.`)
  process.exitCode = code === 0 ? 0 : 1
})
