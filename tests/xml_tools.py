"""What the XML tests share: a verifier's context, xmlsec1 as judge and as somebody else's signer, and small documents."""

from __future__ import annotations

import subprocess
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from lxml import etree

from audit.log import SYSTEM
from core.settings import Config
from core.xml import Element
from pki.crl import CrlPublisher
from pki.trust import load_trust
from signer.xml_options import XmlOptions
from tests.signer.house import CLIENT, OFFICER, House
from verifier.context import Context
from verifier.verdict import SignatureVerdict
from verifier.xml import verify_xml

DS = "http://www.w3.org/2000/09/xmldsig#"
XADES = "http://uri.etsi.org/01903/v1.3.2#"
SIMPLE = b'<HoSo Id="hs-1"><Ten>An</Ten><Tien>100</Tien></HoSo>'
INNER = b"<Goi>" + SIMPLE + b"</Goi>"
DOCUMENT = """<?xml version="1.0"?>
<?xml-stylesheet href="hs.css"?>
<HoSo xmlns="urn:hs" xmlns:k="urn:khac" xml:lang="vi" Id="hs-1">
  <Ten k:loai='x'>Nguyễn &amp; Đỗ</Ten><!-- ghi chú -->
  <NoiDung Id="nd-1"><k:Muc xmlns="" a="1"/>\r
5 &lt; 6<![CDATA[ & ]]> &#13; <Trong k:b="&#10;&#9;'&quot;"><Sau/></Trong></NoiDung>
</HoSo>
<!-- </HoSo> -->
""".encode()


def sign(
    house: House, document: bytes = DOCUMENT, *, signer: str = OFFICER, level: str = "B-B", element: str | None = None
) -> bytes:
    """``document`` signed by the house's own service."""
    options = XmlOptions.model_validate({"signer": signer, "level": level, "element": element})
    return house.signer.sign_xml(document, options, CLIENT)


def context_of(house: House) -> Context:
    """What a verifier in this house knows, with fresh CRLs."""
    crls = CrlPublisher(database=house.database, keys=house.keys, now=house.now, config=Config(home=Path()))
    for authority in ("root", "issuing"):
        crls.publish(authority, actor=SYSTEM)
    with house.database.read() as db:
        return Context(trust=load_trust(db), now=house.now())


def judge(house: House, document: bytes) -> list[SignatureVerdict]:
    """Our verdicts on every signature of ``document``."""
    return verify_xml(document, context_of(house))


def sole(house: House, document: bytes) -> SignatureVerdict:
    """Our verdict on its only signature."""
    (verdict,) = judge(house, document)
    return verdict


def signature_in(document: bytes) -> Element:
    """The first ds:Signature of ``document``."""
    return next(etree.fromstring(document).iter(f"{{{DS}}}Signature"))


def parent_of(element: Element) -> Element:
    """The element ``element`` is a child of."""
    parent = element.getparent()
    assert parent is not None
    return parent


def take_out(element: Element) -> Element:
    """``element`` taken out of its tree, the text behind it left there."""
    parent, before, tail = parent_of(element), element.getprevious(), element.tail or ""
    if before is not None:
        before.tail = (before.tail or "") + tail
    else:
        parent.text = (parent.text or "") + tail
    element.tail = None
    parent.remove(element)
    return element


def xmlsec1_accepts(folder: Path, house: House, document: bytes, *, number: int = 1, ids: tuple[str, ...] = ()) -> bool:
    """Whether xmlsec1 verifies the signature with this number; ``ids``: elements (``namespace:name``) whose Id it is to know."""
    path = folder / "judged.xml"
    path.write_bytes(document)
    command = ["xmlsec1", "--verify", "--trusted-pem", str(house.root_file(folder)), "--id-attr:Id", f"{XADES}:SignedProperties"]
    for name in ids:
        command += ["--id-attr:Id", name]
    command += ["--node-xpath", f"(//*[local-name()='Signature'])[{number}]", str(path)]
    return subprocess.run(command, capture_output=True, timeout=30, check=False).returncode == 0


def xmlsec1_sign(folder: Path, house: House, template: str, *, ids: tuple[str, ...] = ("HoSo",)) -> bytes:
    """``template`` with its first signature filled in by xmlsec1, with the officer's key and certificate."""
    identity = house.identity()
    key = house.keys.key(identity.key_label)
    (folder / "key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    names = []
    for number, certificate in enumerate((identity.certificate, *identity.chain[:-1])):
        names.append(str(folder / f"certificate-{number}.pem"))
        Path(names[-1]).write_bytes(certificate.public_bytes(Encoding.PEM))
    (folder / "template.xml").write_text(template, encoding="utf-8")
    command = [
        "xmlsec1",
        "--sign",
        "--privkey-pem",
        ",".join([str(folder / "key.pem"), *names]),
        "--output",
        str(folder / "signed.xml"),
    ]
    for name in ids:
        command += ["--id-attr:Id", name]
    subprocess.run([*command, str(folder / "template.xml")], check=True, capture_output=True, timeout=30)
    return (folder / "signed.xml").read_bytes()
