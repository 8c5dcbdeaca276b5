# Grammar of schedules, as Backstop's other commands read it. Checks every value at plan time: EventBridge reports only that
# an expression is invalid, and only at apply. testing/terraform/schedules.txt holds cases for both parsers.
locals {
  text        = trimspace(var.text)
  cron_fields = compact(split(" ", replace(try(regex("^cron\\((.*)\\)$", local.text)[0], ""), "/\\s+/", " ")))
  rate_parts  = compact(split(" ", replace(try(regex("^rate\\((.*)\\)$", local.text)[0], ""), "/\\s+/", " ")))
  at_moment   = try(regex("^at\\(([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2})\\)$", local.text)[0], null)

  fault = (
    can(regex("^cron\\(.*\\)$", local.text)) ? local.cron_fault :
    can(regex("^rate\\(.*\\)$", local.text)) ? local.rate_fault :
    can(regex("^at\\(.*\\)$", local.text)) ? local.at_fault :
    "write cron(minutes hours day-of-month month day-of-week year), rate(6 hours) or at(2027-01-31T23:55:00)"
  )

  # at: one valid date and time.
  at_fault = can(timeadd("${local.at_moment}Z", "0s")) ? null : "at needs a moment that exists: at(2027-01-31T23:55:00)"

  # rate: a positive number and a unit, singular for 1, at most a year.
  rate_seconds = { minute = 60, hour = 3600, day = 86400 }
  rate_number  = try(tonumber(regex("^\\+?[0-9]{1,12}$", local.rate_parts[0])), null)
  rate_unit    = try(regex("^(minute|hour|day)s?$", local.rate_parts[1])[0], null)
  rate_plural  = try(endswith(local.rate_parts[1], "s"), false)
  rate_fault = (
    length(local.rate_parts) != 2 || local.rate_number == null ? "rate needs a whole number and a unit: rate(1 hour), rate(6 hours)" :
    local.rate_number == 0 ? "rate needs a number above 0" :
    local.rate_unit == null ? "`${local.rate_parts[1]}` is not a unit: write minute(s), hour(s) or day(s)" :
    local.rate_number == 1 && local.rate_plural ? "with 1 the unit is singular: rate(1 ${local.rate_unit})" :
    local.rate_number > 1 && !local.rate_plural ? "with ${local.rate_number} the unit is plural: rate(${local.rate_number} ${local.rate_unit}s)" :
    local.rate_number * local.rate_seconds[local.rate_unit] > 366 * 86400 ? "rate is longer than a year" :
    null
  )

  # cron: each field as a list of items, names as numbers.
  cron_names = {
    month       = { JAN = 1, FEB = 2, MAR = 3, APR = 4, MAY = 5, JUN = 6, JUL = 7, AUG = 8, SEP = 9, OCT = 10, NOV = 11, DEC = 12 }
    day-of-week = { SUN = 1, MON = 2, TUE = 3, WED = 4, THU = 5, FRI = 6, SAT = 7 }
  }
  cron_bounds = {
    minutes      = [0, 59]
    hours        = [0, 23]
    day-of-month = [1, 31]
    month        = [1, 12]
    day-of-week  = [1, 7]
    year         = [1970, 2199]
  }
  cron_order = ["minutes", "hours", "day-of-month", "month", "day-of-week", "year"]
  cron_text  = { for index, name in local.cron_order : name => upper(try(local.cron_fields[index], "")) }

  # Days with special characters: L, LW, 15W; L, 6L, 3#2. Each becomes the value to check against the bounds.
  cron_special = {
    day-of-month = try(regex("^(?:L|LW|([0-9]+)W)$", local.cron_text["day-of-month"])[0], "none")
    day-of-week  = try(regex("^(?:L|([A-Z0-9]+)L|([A-Z0-9]+)#[1-5])$", local.cron_text["day-of-week"]), ["none"])
  }
  cron_value_text = merge(local.cron_text, {
    day-of-month = (
      local.cron_text["day-of-month"] == "?" ? "*" :
      local.cron_special["day-of-month"] == "none" ? local.cron_text["day-of-month"] :
      coalesce(local.cron_special["day-of-month"], "1")
    )
    day-of-week = (
      local.cron_text["day-of-week"] == "?" ? "*" :
      try(local.cron_special["day-of-week"][0] == "none", false) ? local.cron_text["day-of-week"] :
      coalesce(concat(compact(local.cron_special["day-of-week"]), ["7"])...)
    )
  })

  # Items of each field, split into range and step.
  cron_items = {
    for name, text in local.cron_value_text : name => [
      for item in split(",", text) : {
        text  = item
        range = split("/", item)[0]
        steps = slice(split("/", item), 1, length(split("/", item)))
        ends  = split("-", split("/", item)[0])
      }
    ]
  }
  cron_values = {
    for name, items in local.cron_items : name => [
      for item in items : {
        text   = item.text
        shaped = length(item.steps) <= 1 && length(item.ends) <= 2
        values = item.range == "*" ? local.cron_bounds[name] : [
          for end in item.ends :
          try(local.cron_names[name][end], tonumber(regex("^[0-9]{1,5}$", end)), -1)
        ]
        stepped = length(item.steps) > 0
        step    = length(item.steps) == 0 ? 1 : try(tonumber(regex("^\\+?[0-9]{1,5}$", item.steps[0])), 0)
      }
    ]
  }
  cron_item_faults = {
    for name, items in local.cron_values : name => compact([
      for item in items :
      !item.shaped || anytrue([for value in item.values : value < local.cron_bounds[name][0] || value > local.cron_bounds[name][1]]) ?
      "${name}: `${item.text}` is not a value: write ${local.cron_bounds[name][0]}-${local.cron_bounds[name][1]}" :
      item.step < 1 || item.step > local.cron_bounds[name][1] - local.cron_bounds[name][0] + 1 ?
      "${name}: `${item.text}`: the step is a number from 1 to ${local.cron_bounds[name][1] - local.cron_bounds[name][0] + 1}" :
      item.values[0] > item.values[length(item.values) - 1] ?
      "${name}: `${item.text}` runs backwards" : ""
    ])
  }
  cron_field_faults = flatten([for name in local.cron_order : local.cron_item_faults[name]])
  cron_days         = [local.cron_text["day-of-month"], local.cron_text["day-of-week"]]

  cron_fault = (
    length(local.cron_fields) != 6 ? "cron needs six fields (minutes hours day-of-month month day-of-week year), found ${length(local.cron_fields)}" :
    local.cron_days == ["?", "?"] ? "day-of-month and day-of-week are both `?`: write a value or `*` in one" :
    !contains(local.cron_days, "?") ? "one of day-of-month and day-of-week must be `?`" :
    length(local.cron_field_faults) > 0 ? local.cron_field_faults[0] :
    local.cron_never ? "no day matches: it would never run" :
    null
  )

  # Finds days that none of the months has, such as 30 February, or 29 February without a leap year.
  cron_sets = length(local.cron_field_faults) > 0 ? {} : {
    for name, items in local.cron_values : name => distinct(flatten([
      for item in items : range(
        item.values[0],
        (length(item.values) == 1 && item.stepped ? local.cron_bounds[name][1] : item.values[length(item.values) - 1]) + 1,
        item.step,
      )
    ]))
  }
  cron_leap   = anytrue([for year in try(local.cron_sets["year"], []) : year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)])
  cron_months = [0, 31, local.cron_leap ? 29 : 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
  cron_never = !anytrue([
    for month in try(local.cron_sets["month"], []) :
    anytrue([for day in try(local.cron_sets["day-of-month"], []) : day <= local.cron_months[month]])
  ])

  # Maximum interval between runs in hours, for a rate or a cron expression that runs every day.
  cron_daily = (
    local.cron_fault == null &&
    contains(["*", "?"], local.cron_text["day-of-month"]) && contains(["*", "?"], local.cron_text["day-of-week"]) &&
    local.cron_text["month"] == "*" && local.cron_text["year"] == "*"
  )
  cron_hours = try(sort(formatlist("%02d", local.cron_sets["hours"])), [])
  interval_hours = (
    local.fault != null ? null :
    startswith(local.text, "rate(") ? local.rate_number * local.rate_seconds[local.rate_unit] / 3600 :
    local.cron_daily ? max([
      for index, hour in local.cron_hours :
      (index == 0 ? tonumber(hour) + 24 - tonumber(local.cron_hours[length(local.cron_hours) - 1]) : tonumber(hour) - tonumber(local.cron_hours[index - 1]))
    ]...) :
    null
  )
}
