/** What the administration API answers, as types for whoever checks the script: nothing of it runs. */
export const contract = `// @ts-check

/**
 * @template T
 * @typedef {{ ok: true, body: T } | { ok: false, status: number, problem: string }} Answer
 * What came of a call: the body, or the problem in words for people.
 */
/** @typedef {{ code?: string, reason?: string, message?: string | string[] }} Refusal */
/**
 * @template T
 * @typedef {{ items: T[], nextCursor: string | null }} Page
 */
/**
 * @typedef {object} Session
 * @property {string} id
 * @property {string} userId
 * @property {string} username
 * @property {string[]} roles
 * @property {string} createdAt
 * @property {string} lastSeenAt
 * @property {string} expiresAt
 * @property {string | null} ip
 * @property {string | null} userAgent
 * @property {boolean} exempt
 * @property {'active' | 'ended'} state
 * @property {string | null} endReason
 * @property {string | null} endedAt
 * @property {string | null} endedBy
 * @property {boolean} current
 */
/** @typedef {{ userId: string, username: string | null, logins: number, windowMs: number }} Storm */
/**
 * @typedef {object} Summary
 * @property {number} activeSessions
 * @property {number} activeUsers
 * @property {number} administrators
 * @property {number} exemptSessions
 * @property {Storm[]} storms
 */
/** @typedef {{ userId?: string, username?: string, why: 'administrator' | 'no-session' }} Skipped */
/** @typedef {{ ended: number, users?: number, skipped: Skipped[] }} LoggedOut */
/** @typedef {{ ended: number | null, users: number | null, spared: number | null }} LoggedOutEveryone */
/** @typedef {{ administrators: boolean, me: boolean, roles?: string[], usernames?: string[] }} Except */
/** @typedef {{ except: Except, note?: string }} EveryoneExcept */
/** @typedef {{ kind: 'username' | 'role', value: string }} ExemptionKey */
/** @typedef {ExemptionKey & { note?: string, expiresAt?: string }} NewExemption */
/**
 * @typedef {object} Exemption
 * @property {'username' | 'role'} kind
 * @property {string} value
 * @property {'options' | 'runtime'} origin
 * @property {string | null} note
 * @property {string | null} addedBy
 * @property {string | null} addedAt
 * @property {string | null} expiresAt
 */
/**
 * @typedef {object} Action
 * @property {string} id
 * @property {string} at
 * @property {string | null} by
 * @property {string | null} ip
 * @property {string} action
 * @property {number | null} ended
 * @property {number | null} users
 * @property {string | null} note
 * @property {Record<string, unknown> | null} target
 */
`;
