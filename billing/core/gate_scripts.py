"""The Lua scripts of the gate. Each is one atomic step; every amount is whole nano-dollars below 2⁵³.

A wallet hash holds: `c` the credit base of the last load, `e` the epoch of that load, `in` the epoch
of the last join or load, `s:<spool>` the highest running total heard of that spool, `h:<call>` a live
hold as `amount lease_end`, `spent` and `held` their sums (so that admission costs O(1)), `next` the
earliest lease end, `t` the ticket of the load under way, `tv` the version of what the load read: of the
organization's terms, of the key, or of the organization's budgets. One that is older than the caller's is
loaded anew. `l` is the limit of a budget, for who is refused; nothing is reckoned with it.
`idle` is what the sweep saw last, and since when: `c|spent|held milliseconds`.
Spendable is `c - spent - held`. Budgets are wallets of their own kind under the same rules.

The epoch hash of a shard holds: `id` as `<server run id>:<nonce>`, `open` once every spool has joined,
`j:<spool>` for each that has, and a mark for every wallet written in this epoch.

Nothing that travels is an increment: processes tell running totals, and a total only grows here, so a
command may be lost, repeated, late or reordered.
"""

from __future__ import annotations

_HEAD = """
local function n(x) return tonumber(x) or 0 end
local function s(x) return string.format('%.0f', x) end
local function now() local t = redis.call('TIME') return t[1] * 1000 + math.floor(t[2] / 1000) end
local function raise(W, spool, total)
  local stored = redis.call('HGET', W, 's:' .. spool)
  local have = n(stored)
  if not stored or total > have then
    local top = math.max(have, total)
    redis.call('HSET', W, 's:' .. spool, s(top))
    redis.call('HINCRBY', W, 'spent', s(top - have))
  end
end
local function held(W, call)
  local h = redis.call('HGET', W, 'h:' .. call)
  if not h then return 0, 0 end
  local amount, till = h:match('^(%d+) (%d+)$')
  return n(amount), n(till)
end
local function hold(W, call, amount, till, soonest)
  local have = held(W, call)
  local top = math.max(amount, have)
  if top > have then redis.call('HINCRBY', W, 'held', s(top - have)) end
  redis.call('HSET', W, 'h:' .. call, s(top) .. ' ' .. s(till))
  if not soonest or till < n(soonest) then redis.call('HSET', W, 'next', s(till)) end
end
local function drop(W, call)
  local have = held(W, call)
  if redis.call('HDEL', W, 'h:' .. call) == 1 then redis.call('HINCRBY', W, 'held', s(0 - have)) end
end
local function sweep(W, t)
  local all, soonest, gone = redis.call('HGETALL', W), nil, 0
  for i = 1, #all, 2 do
    local call = all[i]:match('^h:(.*)$')
    if call then
      local _, till = held(W, call)
      if till <= t then drop(W, call) gone = gone + 1
      elseif not soonest or till < soonest then soonest = till end
    end
  end
  if soonest then redis.call('HSET', W, 'next', s(soonest)) else redis.call('HDEL', W, 'next') end
  return gone
end
"""

# The part of `admit` and `cover` that is one: are the wallets loaded in this epoch, do they cover the
# amount? All wallets are checked before the first is written.
_COVER = """
local function look(E, first, t)
  local found, absent = {}, {}
  for i = first, #KEYS do
    local W = KEYS[i]
    local w = redis.call('HMGET', W, 'e', 'c', 'spent', 'held', 'next', 'tv')
    if w[1] ~= E or not w[2] then
      absent[#absent + 1] = i - first + 1
    elseif w[5] and t >= n(w[5]) then
      sweep(W, t)
      local again = redis.call('HMGET', W, 'held', 'next')
      w[4], w[5] = again[1], again[2]
    end
    found[#found + 1] = w
  end
  return found, absent
end
-- The one of them that has least left for the call, among those that do not cover the amount.
local function short(found, first, call, amount)
  local which, least
  for i = first, #KEYS do
    local w = found[i - first + 1]
    local have = held(KEYS[i], call)
    local left = n(w[2]) - n(w[3]) - n(w[4])
    if amount > have and left < amount - have and (not which or left + have < least) then
      which, least = i - first + 1, left + have
    end
  end
  if which then return {'no', which, s(least), redis.call('HGET', KEYS[first + which - 1], 'l') or nil} end
end
"""

ADMIT = (
    _HEAD
    + _COVER
    + """
-- KEYS: key version, rate limit, wallet, budget...
-- ARGV: epoch call amount lease_ms key_version terms_version interval_us burst budget_version...
local version = redis.call('GET', KEYS[1])
if version ~= ARGV[5] then return {'key', version or ''} end
local clock = redis.call('TIME')
local t = clock[1] * 1000 + math.floor(clock[2] / 1000)
local found, absent = look(ARGV[1], 3, t)
if #absent > 0 then return {'missing', unpack(absent)} end
for i, w in ipairs(found) do
  if n(w[6]) < n(ARGV[i == 1 and 6 or 7 + i]) then absent[#absent + 1] = i end
end
if #absent > 0 then return {'missing', unpack(absent)} end
if n(found[1][6]) > n(ARGV[6]) then return {'terms', found[1][6]} end
-- The generic cell rate algorithm, in microseconds. A call that is not admitted has used nothing of it.
local us, step, left = clock[1] * 1000000 + clock[2], n(ARGV[7]), -1
local used, room = 0, step * n(ARGV[8])
if step > 0 then
  used = math.max(n(redis.call('GET', KEYS[2])), us) + step - us
  if used > room then
    -- Asked again, since its answer was lost: it was counted the first time.
    if held(KEYS[3], ARGV[2]) == 0 then return {'rate', s(math.ceil((used - room) / 1000))} end
    used = used - step
  end
  left = math.floor((room - used) / step)
end
local no = short(found, 3, ARGV[2], n(ARGV[3]))
if no then return no end
if step > 0 then redis.call('SET', KEYS[2], s(us + used), 'PX', s(math.ceil(used / 1000) + 1)) end
for i = 3, #KEYS do hold(KEYS[i], ARGV[2], n(ARGV[3]), t + n(ARGV[4]), found[i - 2][5]) end
return {'ok', left}
"""
)

# KEYS: rate limit. ARGV: interval_us burst. For what holds nothing: 0, or the milliseconds to wait.
RATE = """
local clock = redis.call('TIME')
local us, step = clock[1] * 1000000 + clock[2], tonumber(ARGV[1])
local used = math.max(tonumber(redis.call('GET', KEYS[1])) or 0, us) + step - us
local over = used - step * tonumber(ARGV[2])
if over > 0 then return math.ceil(over / 1000) end
redis.call('SET', KEYS[1], string.format('%.0f', us + used), 'PX', math.ceil(used / 1000) + 1)
return 0
"""

COVER = (
    _HEAD
    + _COVER
    + """
-- KEYS: wallet, budget...   ARGV: epoch call amount lease_ms.   Extends and renews; never shrinks.
local t = now()
local found, absent = look(ARGV[1], 1, t)
if #absent > 0 then return {'missing', unpack(absent)} end
local no = short(found, 1, ARGV[2], n(ARGV[3]))
if no then return no end
for i = 1, #KEYS do hold(KEYS[i], ARGV[2], n(ARGV[3]), t + n(ARGV[4]), found[i][5]) end
return {'ok'}
"""
)

RESERVE = (
    _HEAD
    + _COVER
    + """
-- KEYS: wallet   ARGV: epoch call amount lease_ms credit_limit at_most terms_version   -> what is held now
-- A hold as of a call, but never on the credit limit; with `at_most` as much of the amount as there is.
-- The limit is taken off the base that has it: one of other terms is loaded anew first.
local t = now()
local found, absent = look(ARGV[1], 1, t)
if #absent > 0 or n(found[1][6]) ~= n(ARGV[7]) then return {'missing'} end
local w, amount = found[1], n(ARGV[3])
-- Asked again, since its answer was lost: what it holds by now is its own.
local left = n(w[2]) - n(ARGV[5]) - n(w[3]) - n(w[4]) + (held(KEYS[1], ARGV[2]))
if left < amount then
  if ARGV[6] ~= '1' then return {'no', s(left)} end
  amount = math.max(left, 0)
end
if amount > 0 then hold(KEYS[1], ARGV[2], amount, t + n(ARGV[4]), w[5]) end
return {'ok', s(amount)}
"""
)

SETTLE = (
    _HEAD
    + """
-- KEYS: receipt, wallet, budget...   ARGV: spool call receipt receipt_seconds total...
-- Charges also when the hold is gone: the total is what was delivered.
for i = 2, #KEYS do
  raise(KEYS[i], ARGV[1], n(ARGV[i + 3]))
  drop(KEYS[i], ARGV[2])
end
if ARGV[3] ~= '' then redis.call('SET', KEYS[1], ARGV[3], 'EX', ARGV[4]) end
return 'ok'
"""
)

LOSE = (
    _HEAD
    + """
-- KEYS: an organization's free losses of one day   ARGV: spool total kept_seconds
-- By spool the highest running total heard; answers their sum.
if n(ARGV[2]) > n(redis.call('HGET', KEYS[1], ARGV[1])) then redis.call('HSET', KEYS[1], ARGV[1], ARGV[2]) end
redis.call('EXPIRE', KEYS[1], ARGV[3])
local sum = 0
for _, total in ipairs(redis.call('HVALS', KEYS[1])) do sum = sum + n(total) end
return s(sum)
"""
)

RELEASE = (
    _HEAD
    + """
-- KEYS: wallet, budget...   ARGV: call
for i = 1, #KEYS do drop(KEYS[i], ARGV[1]) end
return 'ok'
"""
)

SWEEP = (
    _HEAD
    + """
-- KEYS: wallet   -> how many holds were dropped, and for how many milliseconds nothing has moved
local W, t = KEYS[1], now()
local w = redis.call('HMGET', W, 'next', 'idle')
local gone = 0
if w[1] and t >= n(w[1]) then gone = sweep(W, t) end
local money = redis.call('HMGET', W, 'c', 'spent', 'held')
if not (money[1] or money[2] or money[3]) then return {gone, 0} end
local seen = (money[1] or '') .. '|' .. (money[2] or '') .. '|' .. (money[3] or '')
local before, since = (w[2] or ''):match('^(%S+) (%d+)$')
if before == seen then return {gone, t - n(since)} end
redis.call('HSET', W, 'idle', seen .. ' ' .. s(t))
return {gone, 0}
"""
)

BEGIN = """
-- KEYS: epoch   ARGV: nonce.   A restarted server has another run id, so it is another epoch.
local run = redis.call('INFO', 'server'):match('run_id:(%w+)') .. ':'
local id = redis.call('HGET', KEYS[1], 'id')
if id and id:sub(1, #run) == run then return id end
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'id', run .. ARGV[1])
return run .. ARGV[1]
"""

# Marked in this epoch, and yet the wallet does not know: it was lost. The epoch ends.
_VANISHED = """
local function vanished(W, P, E)
  if redis.call('HEXISTS', P, W) == 1 and redis.call('HGET', W, 'in') ~= E then
    redis.call('DEL', P)
    return true
  end
end
"""

JOIN = (
    _HEAD
    + _COVER
    + _VANISHED
    + """
-- KEYS: wallet, epoch   ARGV: epoch lease_ms #totals spool total ... call amount ...
local W, P, E = KEYS[1], KEYS[2], ARGV[1]
if redis.call('HGET', P, 'id') ~= E then return 'stale' end
if vanished(W, P, E) then return 'evicted' end
local k = 4 + 2 * n(ARGV[3])
for i = 4, k - 1, 2 do raise(W, ARGV[i], n(ARGV[i + 1])) end
local open, t = redis.call('HEXISTS', P, 'open') == 1, now()
for i = k, #ARGV, 2 do
  local fits = true
  if open then                                   -- in an epoch that is open, holds compete like any other
    local w = redis.call('HMGET', W, 'e', 'c', 'spent', 'held')
    local have = held(W, ARGV[i])
    fits = w[1] == E and w[2] and n(w[2]) - n(w[3]) - n(w[4]) >= n(ARGV[i + 1]) - have
  end
  if fits then hold(W, ARGV[i], n(ARGV[i + 1]), t + n(ARGV[2]), redis.call('HGET', W, 'next')) end
end
redis.call('HSET', W, 'in', E)
redis.call('HSET', P, W, 1)
return 'ok'
"""
)

JOINED = """
-- KEYS: epoch   ARGV: epoch spool...   After every wallet's join was acknowledged.
if redis.call('HGET', KEYS[1], 'id') ~= ARGV[1] then return 'stale' end
for i = 2, #ARGV do redis.call('HSET', KEYS[1], 'j:' .. ARGV[i], 1) end
return 'ok'
"""

OPEN = """
-- KEYS: epoch   ARGV: epoch force spool...   -> the spools that are still missing
if redis.call('HGET', KEYS[1], 'id') ~= ARGV[1] then return {'stale'} end
local wait = {}
for i = 3, #ARGV do
  if redis.call('HEXISTS', KEYS[1], 'j:' .. ARGV[i]) == 0 then wait[#wait + 1] = ARGV[i] end
end
if #wait == 0 or ARGV[2] == '1' then redis.call('HSET', KEYS[1], 'open', 1) end
return wait
"""

TICKET = (
    _VANISHED
    + """
-- KEYS: wallet, epoch   ARGV: epoch nonce   -> the spools whose totals the wallet holds
local W, P = KEYS[1], KEYS[2]
if redis.call('HGET', P, 'id') ~= ARGV[1] or redis.call('HEXISTS', P, 'open') == 0 then return {'closed'} end
if vanished(W, P, ARGV[1]) then return {'evicted'} end
redis.call('HSET', W, 't', ARGV[2])
local out = {'ok'}
for _, f in ipairs(redis.call('HKEYS', W)) do
  local spool = f:match('^s:(.*)$')
  if spool then out[#out + 1] = spool end
end
return out
"""
)

LOAD = (
    _HEAD
    + """
-- KEYS: wallet, epoch   ARGV: nonce epoch c forget version limit #closed closed ... spool tally ...
local W, P = KEYS[1], KEYS[2]
if redis.call('HGET', W, 't') ~= ARGV[1] then return {'late'} end
redis.call('HDEL', W, 't')
local k = 8 + n(ARGV[7])
for i = 8, k - 1 do
  redis.call('HINCRBY', W, 'spent', s(0 - n(redis.call('HGET', W, 's:' .. ARGV[i]))))
  redis.call('HDEL', W, 's:' .. ARGV[i])
end
local tally = {}
for i = k, #ARGV, 2 do
  tally[ARGV[i]] = n(ARGV[i + 1])
  if tally[ARGV[i]] > 0 or redis.call('HEXISTS', W, 's:' .. ARGV[i]) == 1 then
    raise(W, ARGV[i], tally[ARGV[i]])
  end
end
redis.call('HSET', W, 'c', ARGV[3], 'e', ARGV[2], 'in', ARGV[2])
if n(ARGV[5]) > n(redis.call('HGET', W, 'tv')) then redis.call('HSET', W, 'tv', ARGV[5]) end
if ARGV[6] ~= '' then redis.call('HSET', W, 'l', ARGV[6]) else redis.call('HDEL', W, 'l') end
redis.call('HSET', P, W, 1)
if ARGV[4] ~= '0' then                             -- 2: its window is long over, whatever its totals
  for i, f in ipairs(redis.call('HGETALL', W)) do
    if i % 2 == 1 then
      local spool = f:match('^s:(.*)$')
      if f:match('^h:') or spool and n(redis.call('HGET', W, f)) ~= (tally[spool] or -1)
         and ARGV[4] ~= '2' then
        return {'no'}
      end
    end
  end
  redis.call('DEL', W)
  redis.call('HDEL', P, W)
  return {'forgotten'}
end
local w = redis.call('HMGET', W, 'spent', 'held')
return {'ok', s(n(ARGV[3]) - n(w[1]) - n(w[2]))}
"""
)
