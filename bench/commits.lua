-- A load of small transactions. Notes for each commit when it was acknowledged and how long the transaction took:
-- "<monotonic nanoseconds> <nanoseconds>", one file per thread in the folder that BENCH_COMMITS names.
local ffi = require("ffi")
ffi.cdef("typedef struct { long s; long ns; } bench_time; int clock_gettime(int clock, bench_time *time);")

sysbench.cmdline.options = {
    tables = { "Number of tables", 8 },
    table_size = { "Rows of each table", 1000 },
}

local stamp = ffi.new("bench_time")
local CLOCK_MONOTONIC = 1

local function now()
    ffi.C.clock_gettime(CLOCK_MONOTONIC, stamp)
    return tonumber(stamp.s) * 1e9 + tonumber(stamp.ns)
end

function thread_init()
    connection = sysbench.sql.driver():connect()
    notes = io.open(os.getenv("BENCH_COMMITS") .. "/" .. sysbench.tid, "w")
    notes:setvbuf("line")
end

function event()
    local begin = now()
    connection:query("BEGIN")
    for _ = 1, 2 do
        local t = sysbench.rand.uniform(1, sysbench.opt.tables)
        local id = sysbench.rand.uniform(1, sysbench.opt.table_size)
        connection:query(string.format("UPDATE sbtest%d SET k = k + 1 WHERE id = %d", t, id))
    end
    connection:query("COMMIT")
    local done = now()
    notes:write(string.format("%.0f %.0f\n", done, done - begin))
end

function thread_done()
    notes:close()
    connection:disconnect()
end
