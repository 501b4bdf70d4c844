import java.io.File;
import java.security.Key;
import java.security.cert.X509Certificate;
import javax.xml.crypto.AlgorithmMethod;
import javax.xml.crypto.KeySelector;
import javax.xml.crypto.KeySelectorResult;
import javax.xml.crypto.XMLCryptoContext;
import javax.xml.crypto.dsig.XMLSignature;
import javax.xml.crypto.dsig.XMLSignatureFactory;
import javax.xml.crypto.dsig.dom.DOMValidateContext;
import javax.xml.crypto.dsig.keyinfo.KeyInfo;
import javax.xml.crypto.dsig.keyinfo.X509Data;
import javax.xml.parsers.DocumentBuilderFactory;
import org.w3c.dom.Document;
import org.w3c.dom.Element;
import org.w3c.dom.NodeList;

/** Judges every ds:Signature of an XML file with the JDK's own implementation: prints valid or invalid for each. */
public class VerifyXml {
    public static void main(String[] arguments) throws Exception {
        DocumentBuilderFactory parsers = DocumentBuilderFactory.newInstance();
        parsers.setNamespaceAware(true);
        parsers.setFeature("http://apache.org/xml/features/disallow-doctype-decl", true);
        Document document = parsers.newDocumentBuilder().parse(new File(arguments[0]));
        NodeList signatures = document.getElementsByTagNameNS(XMLSignature.XMLNS, "Signature");
        NodeList elements = document.getElementsByTagNameNS("*", "*");
        for (int i = 0; i < signatures.getLength(); i++) {
            DOMValidateContext context = new DOMValidateContext(new FirstCertificate(), signatures.item(i));
            context.setProperty("org.jcp.xml.dsig.secureValidation", Boolean.TRUE);
            for (int j = 0; j < elements.getLength(); j++) {
                Element element = (Element) elements.item(j);
                if (element.hasAttribute("Id")) {
                    context.setIdAttributeNS(element, null, "Id");
                }
            }
            XMLSignature signature = XMLSignatureFactory.getInstance("DOM").unmarshalXMLSignature(context);
            System.out.println(signature.validate(context) ? "valid" : "invalid");
        }
    }

    private static class FirstCertificate extends KeySelector {
        @Override
        public KeySelectorResult select(KeyInfo keyInfo, Purpose purpose, AlgorithmMethod method, XMLCryptoContext context) {
            for (Object item : keyInfo.getContent()) {
                if (item instanceof X509Data) {
                    X509Certificate certificate = (X509Certificate) ((X509Data) item).getContent().get(0);
                    Key key = certificate.getPublicKey();
                    return () -> key;
                }
            }
            throw new IllegalArgumentException("KeyInfo holds no certificate");
        }
    }
}
