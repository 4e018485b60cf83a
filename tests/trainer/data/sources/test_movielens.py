"""MovieLens-100k: GroupLens' layout and RecBole's give one dataset."""

import io
import zipfile
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from trainer.data.dataset import Dataset
from trainer.data.faults import DatasetError
from trainer.data.settings import MovieLens100kSource
from trainer.data.sources import movielens, prepare
from trainer.data.sources.download import DownloadError, RemoteFile, Wheel
from trainer.data.sources.titles import natural_title

GENRES = [
    "unknown",
    "Action",
    "Adventure",
    "Animation",
    "Children's",
    "Comedy",
    "Crime",
    "Documentary",
    "Drama",
    "Fantasy",
    "Film-Noir",
    "Horror",
    "Musical",
    "Mystery",
    "Romance",
    "Sci-Fi",
    "Thriller",
    "War",
    "Western",
]

# Lines as in the archive: |-separated, Latin-1, the year in the title, one flag per genre.
U_ITEM = (
    "1|Toy Story (1995)|01-Jan-1995||http://us.imdb.com/M/title-exact?Toy%20Story%20(1995)|0|0|0|1|1|1|0|0|0|0|0|0|0|0|0|0|0|0|0\n"
    "12|Usual Suspects, The (1995)|14-Aug-1995||http://x|0|0|0|0|0|0|1|0|0|0|0|0|0|0|0|0|1|0|0\n"
    "267|unknown||||1|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0\n"
    "543|Mis\u00e9rables, Les (1995)|01-Jan-1995||http://x|0|0|0|0|0|0|0|0|1|0|0|0|1|0|0|0|0|0|0\n"
    "639|Tin Drum, The (Blechtrommel, Die) (1979)|01-Jan-1979||http://x|0|0|0|0|0|0|0|0|1|0|0|0|0|0|0|0|0|0|0\n"
    "1412|Land Before Time III: The Time of the Great Giving (1995) (V)|01-Jan-1995||http://x|0|0|0|1|1|0|0|0|0|0|0|0|0|0|0|0|0|0|0\n"
).encode("latin-1")
U_DATA = b"196\t12\t3\t881250949\n186\t543\t5\t891717742\n196\t1\t4\t881250949\n"
U_USER = b"186|39|F|executive|00000\n196|49|M|writer|55105\n"

ITEM = (
    "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
    "1\tToy Story\t1995\tAnimation Children's Comedy\n"
    "12\tUsual Suspects, The\t1995\tCrime Thriller\n"
    "267\tunkonwn\tunkonwn\tunknown\n"
    "543\tMis\u00e9rables, Les\t1995\tDrama Musical\n"
    "639\tTin Drum, The (Blechtrommel, Die)\t1979\tDrama\n"
    "1412\tLand Before Time III: The Time of the Great Giving (1995)\tV\tAnimation Children's\n"
).encode()
INTER = b"user_id:token\titem_id:token\trating:float\ttimestamp:float\n" + U_DATA
USER = (
    b"user_id:token\tage:token\tgender:token\toccupation:token\tzip_code:token\n"
    b"186\t39\tF\texecutive\t00000\n196\t49\tM\twriter\t55105\n"
)
GROUPLENS = {"u.data": U_DATA, "u.item": U_ITEM, "u.user": U_USER}
RECBOLE = {"ml-100k.inter": INTER, "ml-100k.item": ITEM, "ml-100k.user": USER}


def folder_with(path: Path, files: dict[str, bytes]) -> Path:
    path.mkdir(parents=True)
    for name, content in files.items():
        (path / name).write_bytes(content)
    return path


def build(path: Path, files: dict[str, bytes]) -> Dataset:
    return movielens.build(movielens.read_folder(folder_with(path / "raw", files)), path / "dataset")


def test_both_layouts_give_one_dataset(tmp_path: Path) -> None:
    official = build(tmp_path / "official", GROUPLENS)
    wheel = build(tmp_path / "wheel", RECBOLE)
    assert official.fingerprint == wheel.fingerprint
    items = official.items().collect()
    assert items.select("item_id", "title", "year").rows() == [
        ("1", "Toy Story", 1995),
        ("12", "The Usual Suspects", 1995),
        ("267", "unknown", None),
        ("543", "Les Misérables", 1995),
        ("639", "The Tin Drum (Die Blechtrommel)", 1979),
        ("1412", "Land Before Time III: The Time of the Great Giving", 1995),
    ]
    assert items["categories"].to_list()[:3] == [
        ["Animation", "Children's", "Comedy"],
        ["Crime", "Thriller"],
        ["unknown"],
    ]
    assert items["language"].unique().to_list() == ["en"]
    assert official.interactions().collect().rows() == [
        ("196", "12", 881250949, "rating", 3.0),
        ("186", "543", 891717742, "rating", 5.0),
        ("196", "1", 881250949, "rating", 4.0),
    ]
    users = official.users()
    assert users is not None
    assert users.select("user_id", "age", "gender", "occupation", "zip_code").collect().rows() == [
        ("186", 39, "F", "executive", "00000"),
        ("196", 49, "M", "writer", "55105"),
    ]


@pytest.mark.parametrize(
    ("filed", "natural"),
    [
        ("Godfather, The", "The Godfather"),
        ("Bug's Life, A", "A Bug's Life"),
        ("Eye of Vichy, The (Oeil de Vichy, L')", "The Eye of Vichy (L'Oeil de Vichy)"),
        ("Seventh Seal, The (Sjunde inseglet, Det)", "The Seventh Seal (Det Sjunde inseglet)"),
        ("Mrs. Brown (Her Majesty, Mrs. Brown)", "Mrs. Brown (Her Majesty, Mrs. Brown)"),
        ("I, Worst of All (Yo, la peor de todas)", "I, Worst of All (Yo, la peor de todas)"),
        ("Bye Bye, Love", "Bye Bye, Love"),
        ("Good, The Bad and The Ugly, The", "The Good, The Bad and The Ugly"),
        ("  Two   spaces ", "Two spaces"),
        ("", ""),
    ],
)
def test_articles_move_to_the_front(filed: str, natural: str) -> None:
    assert natural_title(filed) == natural


def test_a_mirror_goes_before_the_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder_with(tmp_path / "mirror" / "ml-100k", GROUPLENS)
    monkeypatch.setenv("BABELREC_DATA_MIRROR", str(tmp_path / "mirror"))
    monkeypatch.setenv("BABELREC_CACHE", str(tmp_path / "cache"))
    with pytest.raises(DatasetError, match=r"incomplete: \{'ratings': 3, 'users': 2, 'films': 6\}.*Remedy"):
        prepare(MovieLens100kSource())
    assert not (tmp_path / "cache" / "downloads").exists()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("u.data", b"196\t242\tthree\t881250949\n"),
        ("u.data", b"196\t242\n"),
        ("u.data", b"\xff\xfe\n"),
        ("u.item", b"1|Toy Story (1995)\n"),
        ("u.user", b"1|24|M\n"),
    ],
)
def test_a_broken_file_of_the_mirror_is_an_error(tmp_path: Path, name: str, content: bytes) -> None:
    folder = folder_with(tmp_path / "ml-100k", GROUPLENS | {name: content})
    with pytest.raises(DatasetError, match="ml-100k can't be read"):
        movielens.read_folder(folder)


def test_an_incomplete_folder_says_what_it_needs(tmp_path: Path) -> None:
    folder = folder_with(tmp_path / "ml-100k", {"u.data": U_DATA})
    with pytest.raises(DatasetError, match=r"u\.data, u\.item, u\.user or ml-100k\.inter"):
        movielens.read_folder(folder)


def test_when_no_place_has_it_every_place_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BABELREC_DATA_MIRROR", raising=False)
    monkeypatch.setenv("BABELREC_CACHE", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setattr(movielens, "GROUPLENS", RemoteFile("http://127.0.0.1:9/ml-100k.zip", "0" * 64))
    with pytest.raises(DownloadError) as caught:
        prepare(MovieLens100kSource())
    for part in ("127.0.0.1:9", "recbole==1.2.1", "Remedy", "u.item"):
        assert part in str(caught.value)
    assert not list((tmp_path / "datasets").glob("*")) if (tmp_path / "datasets").exists() else True


def official_archive(dataset: Dataset) -> bytes:
    """GroupLens' archive with the facts of a dataset, written as its README describes the files."""
    items = dataset.items().collect()
    lines = []
    for row in items.iter_rows(named=True):
        title = row["title"] if row["year"] is None else f"{row['title']} ({row['year']})"
        flags = "|".join(str(int(genre in row["categories"])) for genre in GENRES)
        lines.append(f"{row['item_id']}|{title}|||http://x|{flags}\n")
    ratings = dataset.interactions().select("user_id", "item_id", pl.col("value").cast(pl.Int64), "timestamp")
    people = dataset.users()
    assert people is not None
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("ml-100k/u.item", "".join(lines).encode("latin-1"))
        archive.writestr("ml-100k/u.data", ratings.collect().write_csv(separator="\t", include_header=False))
        table = people.select("user_id", "age", "gender", "occupation", "zip_code").collect()
        archive.writestr("ml-100k/u.user", table.write_csv(separator="|", include_header=False))
    return packed.getvalue()


def test_the_archive_of_the_whole_data_gives_the_wheels_dataset(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = prepare(MovieLens100kSource())
    archive = official_archive(dataset)
    (tmp_path / "cache" / "downloads").mkdir(parents=True)
    (tmp_path / "cache" / "downloads" / "ml-100k.zip").write_bytes(archive)
    monkeypatch.setenv("BABELREC_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("BABELREC_DATA_MIRROR", raising=False)
    import hashlib

    checksum = hashlib.sha256(archive).hexdigest()
    monkeypatch.setattr(movielens, "GROUPLENS", RemoteFile("http://127.0.0.1:9/ml-100k.zip", checksum))
    monkeypatch.setattr(movielens, "WHEEL", Wheel("none==0", "none.whl", "0" * 64))
    again = prepare(MovieLens100kSource())
    assert again.path != dataset.path
    assert again.fingerprint == dataset.fingerprint
    assert_frame_equal(again.items().collect(), dataset.items().collect())


def test_the_real_data(cache: Path) -> None:
    dataset = prepare(MovieLens100kSource())
    assert dataset.rows == {"interactions": 100_000, "items": 1_682, "users": 943}
    items = dataset.items().collect()
    assert items.filter(pl.col("year").is_null())["title"].to_list() == ["unknown"]
    assert items["year"].min() == 1922
    assert items.filter(pl.col("title").str.contains(r", (The|A|An|La|Les?)( \(|$)")).is_empty()
    genres = items["categories"].explode().value_counts()
    # From the archive's own count of flags: 725 dramas, 505 comedies.
    assert dict(genres.rows())["Drama"] == 725
    assert dict(genres.rows())["Comedy"] == 505
    assert dataset.interactions().select(pl.col("value").mean()).collect().item() == pytest.approx(3.52986)
