import { type Policy, parsePolicy } from './policy.ts'

export interface SystemPolicy {
  readonly name: string
  readonly description: string
  /** The document as JSON, for those who ask to see it. */
  readonly document: string
  readonly policy: Policy
}

/** Each built-in policy allows its actions on every resource. */
const BUILT_IN: readonly (readonly [string, string, readonly string[]])[] = [
  ['AdministratorAccess', 'Everything, through every door.', ['*']],
  ['AliyunECDFullAccess', 'Everything about cloud computers and images through WUYING.', ['ecd:*']],
  [
    'AliyunECDReadOnlyAccess',
    'Looking at cloud computers and images through WUYING.',
    ['ecd:Describe*', 'ecd:List*', 'ecd:Get*'],
  ],
  // Regions and projects are asked for before any other call, so full access has to hold them too.
  ['UHostFullAccess', 'Everything about hosts and images through UHost.', ['uhost:*', 'uaccount:Get*']],
  [
    'UHostReadOnlyAccess',
    'Looking at hosts and images through UHost.',
    ['uhost:Describe*', 'uhost:Get*', 'uaccount:Get*'],
  ],
  ['CalotypeFullAccess', "Everything through Calotype's own door.", ['calotype:*']],
]

/** The policies that are always there and cannot be changed, by name. */
export const systemPolicies: ReadonlyMap<string, SystemPolicy> = new Map(
  BUILT_IN.map(([name, description, actions]) => {
    const json = { Version: '1', Statement: [{ Effect: 'Allow', Action: actions, Resource: '*' }] }
    return [name, { name, description, document: JSON.stringify(json), policy: parsePolicy(json) }]
  }),
)
