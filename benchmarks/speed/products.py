"""Synthetic products with texts as long as a shop's: a title of about eight words and a description of about forty."""

from collections.abc import Sequence
from typing import Final

import numpy as np
import polars as pl

# Words of product texts by language; names and model numbers are made up.
_WORDS: Final = {
    "en": "waterproof leather kitchen lamp cotton garden chair steel running shoes winter jacket wireless speaker "
    "battery camera travel bag wooden table ceramic bowl children bicycle helmet soft blanket coffee machine with "
    "for the and of easy to clean light strong quality design home office outdoor use comfortable fits every day "
    "includes two years warranty made from recycled material adjustable height black white blue green small large "
    "set pieces perfect gift friends family safe durable modern classic style pocket handle power charging time "
    "hours screen",
    "es": "impermeable cuero cocina lámpara algodón jardín silla acero zapatillas correr invierno chaqueta altavoz "
    "inalámbrico batería cámara viaje bolsa madera mesa cerámica cuenco niños bicicleta casco manta suave cafetera "
    "con para el la y de fácil limpiar ligero resistente calidad diseño hogar oficina exterior uso cómodo cada día "
    "incluye dos años garantía hecho material reciclado altura ajustable negro blanco azul verde pequeño grande "
    "juego piezas regalo perfecto amigos familia seguro duradero moderno clásico estilo bolsillo mango potencia "
    "carga horas",
    "de": "wasserdicht Leder Küche Lampe Baumwolle Garten Stuhl Stahl Laufschuhe Winter Jacke kabelloser "
    "Lautsprecher Akku Kamera Reise Tasche Holz Tisch Keramik Schale Kinder Fahrrad Helm weiche Decke "
    "Kaffeemaschine mit für der die und aus einfach zu reinigen leicht stark Qualität Gestaltung Zuhause Büro "
    "draußen Gebrauch bequem jeden Tag enthält zwei Jahre Garantie hergestellt wiederverwertetem Material "
    "verstellbare Höhe schwarz weiß blau grün klein groß Satz Teile perfektes Geschenk Freunde Familie sicher "
    "haltbar modern klassisch Stil Tragegriff Leistung",
    "ko": "방수 가죽 주방 램프 면 정원 의자 강철 운동화 겨울 재킷 무선 스피커 배터리 카메라 여행 가방 나무 탁자 "
    "도자기 그릇 어린이 자전거 헬멧 부드러운 담요 커피 머신 쉽게 청소할 수 있는 가벼운 튼튼한 품질 디자인 가정 "
    "사무실 야외 사용 편안한 매일 포함 이년 보증 재활용 소재 높이 조절 검정 하양 파랑 초록 작은 큰 세트 완벽한 선물 "
    "친구 가족 안전한 오래가는 현대적인 고전적인 스타일 주머니 손잡이 충전 시간 화면",
    "zh": "防水 皮革 厨房 台灯 纯棉 花园 椅子 不锈钢 跑步鞋 冬季 夹克 无线 音箱 电池 相机 旅行 背包 实木 桌子 陶瓷 "
    "饭碗 儿童 自行车 头盔 柔软 毛毯 咖啡机 容易 清洗 轻便 坚固 品质 设计 家庭 办公室 户外 使用 舒适 每天 包括 两年 "
    "保修 采用 环保 材料 可调 高度 黑色 白色 蓝色 绿色 小号 大号 套装 完美 礼物 朋友 家人 安全 耐用 现代 经典 风格 "
    "口袋 把手 充电 小时 屏幕",
    "ar": "مقاوم للماء جلد مطبخ مصباح قطن حديقة كرسي فولاذ حذاء الجري شتاء سترة مكبر صوت لاسلكي بطارية كاميرا سفر "
    "حقيبة خشب طاولة خزف وعاء أطفال دراجة خوذة بطانية ناعمة آلة القهوة مع من و سهل التنظيف خفيف قوي جودة تصميم منزل "
    "مكتب خارجي استخدام مريح كل يوم يشمل سنتان ضمان مصنوع مواد معاد تدويرها ارتفاع قابل للتعديل أسود أبيض أزرق أخضر "
    "صغير كبير مجموعة قطع هدية مثالية أصدقاء عائلة آمن متين حديث كلاسيكي نمط جيب مقبض طاقة شحن ساعات",
}
_LETTERS: Final = ("b", "d", "f", "g", "k", "l", "m", "n", "r", "s", "t", "v"), ("a", "e", "i", "o", "u")
_BRANDS: Final = 2_000
# Kinds of products, ten to a category; the texts of a kind have many of its own words.
_KINDS: Final = 400
_OWN_WORDS: Final = 10
_OWN_SHARE: Final = 0.5
_TITLE: Final = (6, 10)
_DESCRIPTION: Final = (30, 50)


def products(numbers: Sequence[int], *, seed: int = 0) -> pl.DataFrame:
    """The items table of a catalogue.

    Args:
        numbers: An item's number determines its id and, with the seed, its whole text. All texts differ.
        seed: Of the texts.

    Returns:
        item_id, language, title, description, categories.
    """
    brands = _brands()
    words = {language: np.array(text.split()) for language, text in _WORDS.items()}
    shortest = min(map(len, words.values()))
    kinds = np.array([np.random.default_rng([3, kind]).permutation(shortest)[:_OWN_WORDS] for kind in range(_KINDS)])
    languages = list(words)
    rows = []
    for number in numbers:
        rng = np.random.default_rng([seed, number])
        # The language and the kind are the number's own.
        language = languages[number % len(languages)]
        kind = int(_KINDS * np.random.default_rng(number).random() ** 2)
        # Frequent words are used far more often than rare ones, as in real texts.
        weights = 1 / np.arange(5, len(words[language]) + 5)
        title, description = int(rng.integers(*_TITLE)), int(rng.integers(*_DESCRIPTION))
        drawn = rng.choice(words[language], title + description, p=weights / weights.sum())
        own = words[language][rng.choice(kinds[kind], len(drawn))]
        drawn = np.where(rng.random(len(drawn)) < _OWN_SHARE, own, drawn)
        brand = brands[int(rng.integers(_BRANDS))]
        category = words["en"][kinds[kind // 10 * 10, :2]]
        rows.append(
            {
                "item_id": f"i{number}",
                "language": language,
                "title": " ".join([brand, *drawn[: title - 1], f"{brand[:2].upper()}{number}"]),
                "description": " ".join(drawn[title:]) + ".",
                "categories": [" ".join(category)],
            }
        )
    return pl.DataFrame(rows)


def _brands() -> list[str]:
    rng = np.random.default_rng(7)
    consonants, vowels = map(np.array, _LETTERS)
    syllables = np.char.add(rng.choice(consonants, (_BRANDS, 3)), rng.choice(vowels, (_BRANDS, 3)))
    return ["".join(row).capitalize() for row in syllables]
