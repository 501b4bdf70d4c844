import com.itextpdf.text.pdf.AcroFields;
import com.itextpdf.text.pdf.PdfReader;
import com.itextpdf.text.pdf.security.PdfPKCS7;
import java.nio.charset.StandardCharsets;
import java.security.Security;
import org.bouncycastle.jce.provider.BouncyCastleProvider;

/**
 * iText 5 as a judge: for each file one line for each signature, of tab-separated fields: the file's number, the signature's
 * field, whether the signature holds, whether it is a document timestamp, whether its timestamp is over its value.
 */
public final class Itext {
  private Itext() {}

  public static void main(String[] files) throws Exception {
    BouncyCastleProvider provider = new BouncyCastleProvider();
    for (String bits : new String[] {"256", "384", "512"}) { // iText 5 has no name for ECDSA's identifiers
      String identifier = "SHA" + bits + "with1.2.840.10045.4.3." + (Integer.parseInt(bits) / 128);
      provider.put("Alg.Alias.Signature." + identifier, "SHA" + bits + "WITHECDSA");
    }
    Security.addProvider(provider);
    for (int number = 0; number < files.length; number++) {
      PdfReader reader = new PdfReader(files[number]);
      AcroFields fields = reader.getAcroFields();
      for (String name : fields.getSignatureNames()) {
        PdfPKCS7 signature = fields.verifySignature(name);
        boolean stamped = !signature.isTsp() && signature.getTimeStampToken() != null && signature.verifyTimestampImprint();
        byte[] line = String.format("%d\t%s\t%s\t%s\t%s%n", number, name, signature.verify(), signature.isTsp(), stamped)
            .getBytes(StandardCharsets.UTF_8);
        System.out.write(line);
      }
      reader.close();
    }
    System.out.flush();
  }
}
