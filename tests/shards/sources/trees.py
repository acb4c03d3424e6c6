"""Small trees in exactly the formats of the public catalogues, with their quirks, and what is read of them.

Each photograph is a real JPEG.
"""

from __future__ import annotations

import functools
import gzip
import io
import json
from typing import Any

import numpy as np
from PIL import Image

from shards.places import Place, is_remote
from shards.rejects import Reject
from shards.sources.catalogue import open_catalogue
from shards.sources.product import Product


@functools.cache
def jpeg(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 200, (6, 5, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "jpeg", quality=90)
    return file.getvalue()


def put(root: Place, name: str, content: bytes | str) -> None:
    path = root / name
    if not is_remote(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def photographs(root: Place, *names: str) -> None:
    for seed, name in enumerate(names):
        put(root, name, jpeg(seed))


def text(value: Any, tag: str = "en_US", **more: Any) -> dict[str, Any]:
    return {"language_tag": tag, "value": value, **more}


ABO_LISTINGS: dict[str, list[dict[str, Any]]] = {
    "listings_0.json.gz": [
        {
            "item_id": "B01",
            "domain_name": "amazon.de",
            "brand": [text("Rivet", "de_DE")],
            "item_name": [text("Stuhl", "de_DE")],
            "color": [text("Blau", "de_DE"), text("Azure", "en_GB", standardized_values=["Blue", "Teal"])],
            "pattern": [text("Uni", "de_DE"), text("Solid")],
            "product_type": [{"value": "CHAIR"}],
            "main_image_id": "81e2",
            "other_image_id": ["0101", "gone"],
            "node": [{"node_id": 1, "path": "/Möbel/Stühle"}],
        },
        {"item_id": "B02", "product_type": "CELLULAR_PHONE_CASE", "main_image_id": "0202"},
        {"item_id": "B03"},
        {"domain_name": "amazon.com", "main_image_id": "0303"},
    ],
    "listings_f.json.gz": [
        {
            "item_id": "B01",
            "domain_name": "amazon.com",
            "item_name": [text("Chair, Azure"), text("Silla", "es_US")],
            "main_image_id": "0101",
            "other_image_id": ["0104"],
            "model_year": [{"language_tag": "en_US", "value": 2019}],
        },
    ],
}
ABO_IMAGES = """image_id,height,width,path
81e2,48,40,81/81e2.jpg
0101,48,40,01/0101.jpg
0104,48,40,01/0104.jpg
0202,48,40,02/0202.jpg
"""


def abo(root: Place) -> Place:
    for name, listings in ABO_LISTINGS.items():
        lines = "".join(json.dumps(listing, ensure_ascii=False) + "\n" for listing in listings)
        lines += "{broken\n" if name == "listings_0.json.gz" else ""
        put(root, f"listings/metadata/{name}", gzip.compress(lines.encode(), mtime=0))
    put(root, "images/metadata/images.csv.gz", gzip.compress(ABO_IMAGES.encode(), mtime=0))
    photographs(
        root, *(f"images/small/{path}" for path in ("81/81e2.jpg", "01/0101.jpg", "01/0104.jpg", "02/0202.jpg"))
    )
    return root


SOP_TRAIN = """image_id class_id super_class_id path
1 1 1 bicycle_final/111085122871_0.JPG
2 1 1 bicycle_final/111085122871_1.JPG
3 2 8 coffee_maker_final/111101585213_0.JPG
x 2 8 coffee_maker_final/111101585213_1.JPG
4 2 8 ../outside.JPG
"""
SOP_TEST = """image_id class_id super_class_id path
59552 11319 3 chair_final/361402130128_0.JPG
"""


def sop(root: Place) -> Place:
    put(root, "Ebay_train.txt", SOP_TRAIN)
    put(root, "Ebay_test.txt", SOP_TEST)
    lines = (SOP_TRAIN + SOP_TEST).splitlines()
    photographs(root, *(line.split()[3] for line in lines if "_0.JPG" in line or "871_1" in line))
    return root


INSHOP_PARTITION = """6
image_name                                                            item_id     evaluation_status
img/WOMEN/Dresses/id_00000002/02_1_front.jpg                          id_00000002 train
img/WOMEN/Dresses/id_00000002/02_2_side.jpg                           id_00000002 train
img/WOMEN/Dresses/id_00000002/03_1_front.jpg                          id_00000002 train
img/MEN/Tees_Tanks/id_00000007/01_1_front.jpg                         id_00000007 query
img/MEN/Tees_Tanks/id_00000007/01_7_additional.jpg                    id_00000007 gallery
img/MEN/Tees_Tanks/id_00000007/front.jpg                              id_00000007 gallery
"""
INSHOP_COLORS = """6
image_name                                                            color
img/WOMEN/Dresses/id_00000002/02_1_front.jpg                          Light blue
img/WOMEN/Dresses/id_00000002/02_2_side.jpg                           Light blue
img/WOMEN/Dresses/id_00000002/03_1_front.jpg
Red
img/MEN/Tees_Tanks/id_00000007/01_1_front.jpg                         Heather grey
"""
INSHOP_BOXES = """6
image_name clothes_type pose_type x_1 y_1 x_2 y_2
img/WOMEN/Dresses/id_00000002/02_1_front.jpg                          3 1 067 027 186 240
img/MEN/Tees_Tanks/id_00000007/01_1_front.jpg                         1 1 055 030 190 201
"""


def inshop(root: Place) -> Place:
    put(root, "Eval/list_eval_partition.txt", INSHOP_PARTITION)
    put(root, "Anno/attributes/list_color_cloth.txt", INSHOP_COLORS)
    put(root, "Anno/list_bbox_inshop.txt", INSHOP_BOXES)
    photographs(root, *(f"Img/{line.split()[0]}" for line in INSHOP_PARTITION.splitlines()[2:]))
    return root


HM_ARTICLES = (
    "article_id,product_code,prod_name,product_type_no,product_type_name,graphical_appearance_name,colour_group_name,"
    "perceived_colour_master_name,index_code,index_name,detail_desc\n"
    '0108775015,0108775,Strap top,253,Vest top,Solid,Black,Black,A,Ladieswear,"Jersey top, with ""narrow"" straps."\n'
    "0108775044,0108775,Strap top,253,Vest top,Solid,White,White,A,Ladieswear,\n"
    "110065001,0110065,OP T-shirt,306,Bra,All over pattern,Black,Black,B,Lingeries/Tights,Lost its zero\n"
    "12x,0110065,,306,Bra,Solid,Black,Black,B,Lingeries/Tights,\n"
)


def hm(root: Place) -> Place:
    put(root, "articles.csv", HM_ARTICLES)
    photographs(root, "images/010/0108775015.jpg", "images/010/0108775044.jpg")
    return root


MYNTRA_STYLES = """id,gender,masterCategory,subCategory,articleType,baseColour,season,year,usage,productDisplayName
15970,Men,Apparel,Topwear,Shirts,Navy Blue,Fall,2011,Casual,Turtle Check Men Navy Blue Shirt
6044,Women,Accessories,Jewellery,Ring,Silver,Winter,2016,NA,Lucera Women Ring, Silver, Size 8
39386,Men,Apparel,Bottomwear,Jeans,Blue,,2012,Casual,Peter England Men Party Blue Jeans
59263,Women,Accessories,Watches
"""


def myntra(root: Place) -> Place:
    put(root, "styles.csv", MYNTRA_STYLES)
    photographs(root, "images/15970.jpg", "images/6044.jpg")
    return root


TREES = {"abo": abo, "sop": sop, "inshop": inshop, "hm": hm, "myntra": myntra}


def read(root, format: str, **options) -> tuple[dict[str, Product], list[Reject]]:
    catalogue = open_catalogue(root, format, **options)
    entries = list(catalogue.entries)
    assert entries == list(catalogue.entries), "can be gone through again"
    rejects = [entry for entry in entries if isinstance(entry, Reject)]
    products = [entry for entry in entries if isinstance(entry, Product)]
    seen = sum(len(product.photographs) for product in products) + sum(r.reason != "duplicate_product" for r in rejects)
    assert catalogue.images == seen
    assert len({product.product_id for product in products}) == len(products)
    return {product.product_id: product for product in products}, rejects


def names(product: Product, root) -> list[str]:
    return [path.relative_to(root).as_posix() for path in product.photographs]
