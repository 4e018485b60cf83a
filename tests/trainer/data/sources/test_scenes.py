"""Sources of published data: sessions, baskets, markets, stays and NeMig, in the editions that are known."""

import gzip
import tempfile
import zipfile
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from trainer.config.base import Settings
from trainer.data.dataset import Dataset
from trainer.data.faults import DatasetError
from trainer.data.settings import BasketsSource, MarketsSource, NemigSource, SessionsSource, StaysSource
from trainer.data.sources import prepare


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BABELREC_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("BABELREC_DATA_MIRROR", raising=False)
    path = tmp_path / "data"
    path.mkdir()
    return path


@pytest.fixture
def mirror(data_mirror: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("BABELREC_DATA_MIRROR", str(data_mirror))
    monkeypatch.setenv("BABELREC_CACHE", str(tmp_path / "cache"))
    return data_mirror


def in_mirror(mirror: Path, name: str) -> None:
    if not (mirror / name).is_dir():
        pytest.skip(f"no {name} in {mirror}")


def put(folder: Path, **files: str) -> None:
    for name, content in files.items():
        path = folder / name.replace("__", ".")
        if path.suffix == ".gz":
            path.write_bytes(gzip.compress(content.encode()))
        else:
            path.write_text(content, encoding="utf-8")


def events(dataset: Dataset, *columns: str) -> list[tuple[Any, ...]]:
    return dataset.interactions().select(columns or ("user_id", "item_id")).collect().rows()


def items(dataset: Dataset) -> dict[str, dict[str, Any]]:
    return {row["item_id"]: row for row in dataset.items().collect().iter_rows(named=True)}


def check_counts(dataset: Dataset) -> None:
    """Every record is written, or dropped for a reason, in all tables together."""
    for table, facts in dataset.read.items():
        assert facts["records"] == facts["written"] + sum(facts["dropped"].values()), table
        assert facts["written"] == dataset.rows[table]


SESSIONS = {"sessions_train__csv": ("prev_items,next_item,locale\n\"['A' 'B'\n 'A']\",C,UK\n['B'],X,DE\n")}
PRODUCTS = {
    "products_train__csv": (
        "id,locale,title,price,brand,color,size,model,material,author,desc\n"
        "A,UK,Kettle,12.5,Acme,,,,,,boils\n"
        "B,DE,Teekanne,40000000.07,,,,,,,\n"
        "A,DE,Kessel,13.0,Acme,,,,,,kocht\n"
        "C,UK,Cup,3,,,,,,,\n"
    )
}


def test_sessions_of_amazon_m2(folder: Path) -> None:
    put(folder, **SESSIONS, **PRODUCTS)
    dataset = prepare(SessionsSource(path=folder))
    assert events(dataset) == [("s0", "A"), ("s0", "B"), ("s0", "A"), ("s0", "C"), ("s1", "B")]
    times = [time for _, time in events(dataset, "user_id", "timestamp")]
    assert [time - times[0] for time in times] == [0, 1, 2, 3, 0]
    assert dataset.dropped["products of sessions that are not in the table of products"] == 1
    users = dataset.users()
    assert users is not None
    assert users.collect().rows() == [("s0", ["en"], "GB"), ("s1", ["de"], "DE")]
    found = items(dataset)
    assert (found["A"]["language"], found["A"]["title"], found["A"]["categories"]) == ("en", "Kettle", ["Acme"])
    assert (found["A"]["price"], found["B"]["price"]) == (12.5, None)
    translations = dataset.translations()
    assert translations is not None
    assert translations.collect().rows() == [("A", "de", "Kessel", "kocht")]
    check_counts(dataset)


def test_sessions_of_one_locale_without_products(folder: Path) -> None:
    put(folder, sessions__csv__gz="session_id,part,locale,items\ns7,a,FR,P Q\ns8,a,IT,R\n")
    dataset = prepare(SessionsSource(path=folder / "sessions.csv.gz", locales=["fr"]))
    assert events(dataset) == [("s7", "P"), ("s7", "Q")]
    assert dataset.dropped["products of sessions in other locales"] == 1
    assert {item["language"] for item in items(dataset).values()} == {"und"}
    check_counts(dataset)
    with pytest.raises(DatasetError, match=r"no session is of JP\. Remedy: choose from FR, IT"):
        prepare(SessionsSource(path=folder / "sessions.csv.gz", locales=["JP"]))


def test_sessions_as_lists_in_parquet(folder: Path) -> None:
    frame = pl.DataFrame({"prev_items": [["A", "B"]], "next_item": ["C"], "locale": ["JP"]})
    frame.write_parquet(folder / "sessions.parquet")
    dataset = prepare(SessionsSource(path=folder))
    assert events(dataset) == [("s0", "A"), ("s0", "B"), ("s0", "C")]


RETAIL = (
    "Invoice,StockCode,Description,Quantity,InvoiceDate,Price,Customer ID,Country\n"
    "489434,85048,LIGHTS,12,12/1/2009 7:45,6.95,13085.0,United Kingdom\n"
    "489434,79323p,PINK LIGHTS,6,12/1/2009 7:45,2.00,13085.0,United Kingdom\n"
    "C489449,85048,LIGHTS,-2,12/2/2009 10:33,6.95,13085.0,United Kingdom\n"
    "489450,POST,POSTAGE,1,12/2/2009 10:33,18.00,13085.0,United Kingdom\n"
    "489451,85048,lights?,1,12/2/2009 10:34,8.00,,United Kingdom\n"
    "489452,85048,LIGHTS,1,12/2/2009 10:35,0.00,99,EIRE\n"
    "489453,85048,LIGHTS,1,12/2/2009 10:36,7.95,99,EIRE\n"
)


def test_baskets_of_online_retail(folder: Path) -> None:
    put(folder, online_retail_ii__csv=RETAIL)
    dataset = prepare(BasketsSource(path=folder))
    assert events(dataset, "user_id", "item_id", "event", "value") == [
        ("13085", "85048", "purchase", pytest.approx(83.4)),
        ("13085", "79323P", "purchase", 12.0),
        ("13085", "85048", "dislike", pytest.approx(13.9)),
        ("99", "85048", "purchase", pytest.approx(7.95)),
    ]
    assert events(dataset, "timestamp")[0] == (1_259_653_500,)
    assert dataset.dropped == {
        "lines without a customer": 1,
        "lines about no product (postage, fees, tests)": 1,
        "lines without a price": 1,
        "exact repeats of a line": 0,
    }
    found = items(dataset)
    assert (found["85048"]["title"], found["85048"]["price"]) == ("lights", 6.95)
    users = dataset.users()
    assert users is not None
    assert users.collect().rows() == [("13085", [], "GB"), ("99", [], "IE")]
    check_counts(dataset)


def test_a_fault_in_a_line_names_its_row(folder: Path) -> None:
    put(folder, lines__csv=RETAIL.replace("C489449,85048,LIGHTS,-2,", "C489449,85048,LIGHTS,many,"))
    with pytest.raises(DatasetError, match=r"lines\.csv, column `Quantity`, row 3.*'many'"):
        prepare(BasketsSource(path=folder))


def workbook(path: Path, sheets: list[list[list[str | float]]]) -> None:
    """An .xlsx file with shared texts, as Excel writes it: numbers as numbers, empty cells left out."""
    main = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
    shared: list[str] = []
    with zipfile.ZipFile(path, "w") as archive:
        for number, rows in enumerate(sheets, 1):
            lines = []
            for line, row in enumerate(rows, 1):
                cells = []
                for column, value in zip("ABCDEFGH", row, strict=True):
                    if isinstance(value, str) and value:
                        cells.append(f'<c r="{column}{line}" t="s"><v>{len(shared)}</v></c>')
                        shared.append(value)
                    elif value != "":
                        cells.append(f'<c r="{column}{line}" s="1"><v>{value}</v></c>')
                lines.append(f'<row r="{line}">{"".join(cells)}</row>')
            sheet = f"<worksheet {main}><cols/><sheetData>{''.join(lines)}</sheetData></worksheet>"
            archive.writestr(f"xl/worksheets/sheet{number}.xml", sheet)
        entries = "".join(f"<si><t>{text[:1]}</t><r><t>{text[1:]}</t></r></si>" for text in shared)
        archive.writestr("xl/sharedStrings.xml", f"<sst {main}>{entries}</sst>")


def test_baskets_of_the_published_workbook(folder: Path) -> None:
    header: list[str | float] = list(RETAIL.splitlines()[0].split(","))
    # 40148.322916666664 days after 1899-12-30 is 2009-12-01 07:45.
    first: list[str | float] = [489434, 85048, "LIGHTS", 12, 40148.322916666664, 6.95, 13085, "France"]
    second: list[str | float] = ["C489449", "79323P", "", -2, 40513.5, 2, "", "France"]
    workbook(folder / "online_retail_II.xlsx", [[header, first], [header, second, first]])
    dataset = prepare(BasketsSource(path=folder / "online_retail_II.xlsx"))
    assert events(dataset, "user_id", "item_id", "timestamp") == [("13085", "85048", 1_259_653_500)]
    assert (dataset.dropped["lines without a customer"], dataset.dropped["exact repeats of a line"]) == (1, 1)
    check_counts(dataset)
    with zipfile.ZipFile(folder / "online+retail+ii.zip", "w") as archive:
        archive.write(folder / "online_retail_II.xlsx", "online_retail_II.xlsx")
    packed = prepare(BasketsSource(path=folder / "online+retail+ii.zip"))
    assert packed.fingerprint == dataset.fingerprint
    (folder / "broken.xlsx").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(DatasetError, match=r"broken\.xlsx can't be read as a workbook.*Remedy: download"):
        prepare(BasketsSource(path=folder / "broken.xlsx"))


FOREC = "userId\titemId\trate\tdate\nu1\tA\t5.0\t2015-04-11\nu1\tB\t2.0\t2015-05-11\nu2\tA\t4\t2016-01-01\n"


def test_markets_of_forec(folder: Path) -> None:
    other = "userId itemId rate date\nu1 A 3.0 2014-01-01\nu1 Z 3.0 2014-01-02\n"
    put(folder, de_5core__txt=FOREC, uk_5core__txt=other)
    dataset = prepare(MarketsSource(path=folder))
    assert events(dataset, "user_id", "item_id", "value")[:2] == [("de:u1", "A", 5.0), ("de:u1", "B", 2.0)]
    # Two people: a market's ids are its own.
    users = dataset.users()
    assert users is not None
    assert users.collect().rows() == [("de:u1", [], "DE"), ("de:u2", [], "DE"), ("uk:u1", [], "GB")]
    check_counts(dataset)
    own = prepare(MarketsSource(path=folder, catalogue_of="de"))
    assert [item for _, item in events(own)] == ["A", "B", "A", "A"]
    assert own.dropped == {"ratings of items that the market does not have": 1}
    check_counts(own)
    alone = prepare(MarketsSource(path=folder, markets=["uk"]))
    assert [item for _, item in events(alone)] == ["A", "Z"]
    with pytest.raises(DatasetError, match="no rating is of the market 'fr'"):
        prepare(MarketsSource(path=folder, markets=["fr"]))


LISTINGS = (
    "id,name,description,neighbourhood_cleansed,latitude,longitude,room_type,price,accommodates,minimum_nights\n"
    '1,Loft,"Bright,\nquiet",Marais,48.85,2.36,Entire home/apt,"$1,200.00",2,3\n'
    "2,Room,,Pigalle,48.88,2.33,Private room,$60.00,1,1\n"
)
REVIEWS = (
    "listing_id,id,date,reviewer_id,reviewer_name,comments\n"
    '1,10,2024-05-01,77,Ana,"Great,\nthanks"\n'
    "2,11,2024-06-01,77,Ana,The host canceled this reservation 2 days before arrival. This is an automated posting.\n"
    "3,12,2024-06-02,78,Bo,Gone\n"
)


def test_stays_of_inside_airbnb(folder: Path) -> None:
    city = folder / "paris"
    city.mkdir()
    put(city, listings__csv__gz=LISTINGS, reviews__csv__gz=REVIEWS)
    dataset = prepare(StaysSource(path=folder))
    assert events(dataset, "user_id", "item_id", "event") == [("77", "1", "purchase")]
    assert dataset.dropped == {
        "automatic notes that the host cancelled": 1,
        "stays at listings that are not in the table of listings": 1,
    }
    found = items(dataset)
    assert found["1"]["categories"] == ["paris", "Marais", "Entire home/apt"]
    # The city's median is 630.
    assert found["1"]["price_level"] == pytest.approx(1200 / 630)
    assert found["1"]["language"] == "en"
    assert found["1"]["latitude"] == 48.85
    check_counts(dataset)
    with pytest.raises(DatasetError, match=r"none of \['rome'\] is there\. Remedy: use paris"):
        prepare(StaysSource(path=folder, cities=["rome"]))


def test_nemig(folder: Path) -> None:
    header = "news_id,lang,title,abstract,date,publisher,subtopic,sentiment,entities\n"
    put(
        folder,
        news_de__csv=header + "de_1,de,Eins,,2019-01-03,A,7,neutral,Q5 Q6 Q5\nde_2,de,Zwei,,2019-01-02,B,-1,neutral,\n",
        behaviors_de__csv="impression_id,user_id,history,impressions\n"
        "i1,u,de_1,de_2-1 de_1-0\n"
        "i2,u,de_1,de_2-0 de_9-1\n",
    )
    dataset = prepare(NemigSource(path=folder, languages=["de"]))
    found = items(dataset)
    assert (found["de_1"]["categories"], found["de_1"]["entities"]) == (["A", "topic 7"], ["Q5", "Q6"])
    assert (found["de_1"]["published_day"], found["de_2"]["categories"]) == (2, ["B"])
    assert events(dataset, "item_id", "event", "impression_id") == [
        ("de_1", "click", None),
        ("de_2", "click", "i1"),
        ("de_1", "impression", "i1"),
        ("de_2", "impression", "i2"),
    ]
    times = [time for (time,) in events(dataset, "timestamp")]
    assert [time - times[1] for time in times] == [-1, 0, 0, 1]
    assert sum(dataset.dropped.values()) == 2
    check_counts(dataset)
    with pytest.raises(DatasetError, match="lacks news_en or behaviors_en"):
        prepare(NemigSource(path=folder))


@pytest.mark.parametrize("source", [SessionsSource, BasketsSource, MarketsSource, StaysSource, NemigSource])
def test_missing_data_name_the_remedy(source: type[Settings], folder: Path) -> None:
    with pytest.raises(DatasetError, match=r"no path is given\. Remedy: .*https://.*BABELREC_DATA_MIRROR"):
        prepare(source())  # type: ignore[arg-type]
    with pytest.raises(DatasetError, match=r"absent does not exist\. Remedy"):
        prepare(source.model_validate({"path": folder / "absent"}))  # type: ignore[arg-type]


def test_a_file_of_other_columns_is_refused(folder: Path) -> None:
    put(folder, ratings__csv="user,asin,rating,date,market\nu,A,5,2020-01-01,de\n")
    with pytest.raises(DatasetError, match=r"has no column `user_id` or `userId`; it has user, asin.*Remedy"):
        prepare(MarketsSource(path=folder))


# What the folders of the mirror say of their content.


def test_real_baskets(mirror: Path) -> None:
    in_mirror(mirror, "online-retail-prices")
    dataset = prepare(BasketsSource())
    assert dataset.rows == {"interactions": 408_924, "items": 4_020, "users": 4_314}
    counts = Counter(event for (event,) in events(dataset, "event"))
    assert counts == {"purchase": 399_552, "dislike": 9_372}
    check_counts(dataset)


def test_real_markets(mirror: Path) -> None:
    in_mirror(mirror, "xmarket-electronics")
    dataset = prepare(MarketsSource())
    assert (dataset.rows["interactions"], dataset.rows["items"]) == (133_576, 8_304)
    people = Counter(user.partition(":")[0] for (user,) in set(events(dataset, "user_id")))
    assert people == {"ca": 4_668, "uk": 3_352, "fr": 1_838, "mx": 1_878, "de": 1_851, "jp": 487, "in": 239}
    stars = Counter(value for (value,) in events(dataset, "value"))
    assert round(stars[5.0] / sum(stars.values()), 2) == 0.72
    check_counts(dataset)


@pytest.fixture(scope="module")
def real_sessions(data_mirror: Path) -> list[tuple[str, list[str]]]:
    """Country and products of each session."""
    in_mirror(data_mirror, "amazon-m2-sessions")
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as cache:
        patch.setenv("BABELREC_DATA_MIRROR", str(data_mirror))
        patch.setenv("BABELREC_CACHE", cache)
        dataset = prepare(SessionsSource())
        check_counts(dataset)
        assert dataset.rows == {"interactions": 615_530, "items": 198_509, "users": 175_689}
        users = dataset.users()
        assert users is not None
        countries = dict(users.select("user_id", "country").collect().iter_rows())
        found: dict[str, list[str]] = defaultdict(list)
        for user, item in events(dataset):
            found[user].append(item)
    return [(countries[user], products) for user, products in found.items()]


# The folder does not say how it treats repeats: 0.50 and 0.09 there, 0.528 and 0.080 here.
@pytest.mark.parametrize(("country", "recall"), [("FR", 0.50), ("DE", 0.09)])
def test_real_sessions_are_dense_in_one_locale_and_sparse_in_another(
    real_sessions: list[tuple[str, list[str]]], country: str, recall: float
) -> None:
    assert next_product_recall(real_sessions, country) == pytest.approx(recall, abs=0.03)


def next_product_recall(sessions: list[tuple[str, list[str]]], country: str, k: int = 20) -> float:
    """Share of last products among the k that other sessions share most with the one before; repeats are left out."""
    with_item: dict[str, list[int]] = defaultdict(list)
    for number, (_, session) in enumerate(sessions):
        for item in dict.fromkeys(session):
            with_item[item].append(number)
    hits = asked = 0
    for number, (where, session) in enumerate(sessions):
        if where != country or session[-1] in session[:-1]:
            continue
        asked += 1
        counts: Counter[str] = Counter()
        for other in with_item[session[-2]]:
            if other != number:
                counts.update(dict.fromkeys(sessions[other][1], 1))
        for seen in session[:-1]:
            counts.pop(seen, None)
        hits += session[-1] in [item for item, _ in counts.most_common(k)]
    return hits / asked


@pytest.mark.parametrize(("city", "share"), [("Beijing", 0.46), ("Singapore", 0.36), ("Albany", 0.30)])
def test_real_stays_are_in_the_neighbourhood_of_the_last(mirror: Path, city: str, share: float) -> None:
    in_mirror(mirror, "airbnb-stays-zh-en")
    dataset = prepare(StaysSource(cities=[city]))
    check_counts(dataset)
    place = {item: row["neighbourhood"] for item, row in items(dataset).items()}
    stays: dict[str, list[str]] = defaultdict(list)
    for user, item, _ in sorted(events(dataset, "user_id", "item_id", "timestamp"), key=lambda row: row[2]):
        stays[user].append(item)
    # A guest's last two listings.
    pairs = [list(dict.fromkeys(visited))[-2:] for visited in stays.values()]
    asked = [(place[pair[0]], place[pair[1]]) for pair in pairs if len(pair) == 2]
    assert sum(one == other for one, other in asked) / len(asked) == pytest.approx(share, abs=0.006)


def test_real_stays_of_all_cities(mirror: Path) -> None:
    in_mirror(mirror, "airbnb-stays-zh-en")
    dataset = prepare(StaysSource())
    assert dataset.rows["items"] == 10_240
    assert dataset.rows["interactions"] == 84_321 - 699
    languages = Counter(language for (language,) in events(dataset, "language"))
    assert languages.most_common(2)[0][0] == "en"


def test_real_nemig(mirror: Path) -> None:
    in_mirror(mirror, "nemig-news-de-en")
    dataset = prepare(NemigSource())
    assert dataset.rows["items"] == 7_346 + 10_814
    shown = dataset.interactions().filter(pl.col("impression_id").is_not_null()).collect()
    assert shown["impression_id"].n_unique() == 17_160 + 15_000
    assert int((shown["event"] == "click").sum()) == 17_153 + 14_148
    entities = dataset.items().explode("entities").group_by("entities").agg(pl.col("language").n_unique()).collect()
    assert entities.drop_nulls().filter(pl.col("language") == 2).height > 0
    check_counts(dataset)
