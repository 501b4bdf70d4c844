import eu.europa.esig.dss.diagnostic.DiagnosticData;
import eu.europa.esig.dss.diagnostic.SignatureWrapper;
import eu.europa.esig.dss.diagnostic.TimestampWrapper;
import eu.europa.esig.dss.jaxb.object.Message;
import eu.europa.esig.dss.model.DSSDocument;
import eu.europa.esig.dss.model.FileDocument;
import eu.europa.esig.dss.pades.validation.PDFDocumentValidator;
import eu.europa.esig.dss.simplereport.SimpleReport;
import eu.europa.esig.dss.spi.DSSUtils;
import eu.europa.esig.dss.spi.validation.CommonCertificateVerifier;
import eu.europa.esig.dss.spi.x509.CommonTrustedCertificateSource;
import eu.europa.esig.dss.spi.x509.revocation.crl.ExternalResourcesCRLSource;
import eu.europa.esig.dss.validation.reports.Reports;
import java.io.BufferedReader;
import java.io.File;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Date;
import java.util.List;
import java.util.Objects;

/**
 * EU DSS with its own default policy as a judge of PDF signatures: one process, any number of files, no network.
 *
 * A request is a line of tab-separated fields: the PDF's path, the moment of validation (ISO 8601, empty: now), the
 * password (or empty), then the paths of the trusted certificates (.der) and of further CRLs (.crl). The answer is one line of
 * JSON.
 */
public final class Judge {
  private Judge() {}

  public static void main(String[] arguments) throws Exception {
    PrintStream answers = new PrintStream(System.out, true, StandardCharsets.UTF_8);
    System.setOut(System.err); // what a library prints is no answer
    BufferedReader requests = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    for (String line = requests.readLine(); line != null; line = requests.readLine()) {
      try {
        answers.println(judge(line.split("\t", -1)));
      } catch (Exception problem) {
        problem.printStackTrace();
        answers.println("{" + field("problem", problem.toString()) + "}");
      }
    }
  }

  private static String judge(String[] request) {
    CommonTrustedCertificateSource anchors = new CommonTrustedCertificateSource();
    List<DSSDocument> lists = new ArrayList<>();
    for (int position = 3; position < request.length; position++) {
      if (request[position].endsWith(".crl")) {
        lists.add(new FileDocument(request[position]));
      } else {
        anchors.addCertificate(DSSUtils.loadCertificate(new File(request[position])));
      }
    }
    CommonCertificateVerifier verifier = new CommonCertificateVerifier();
    verifier.addTrustedCertSources(anchors);
    verifier.setAIASource(null);
    if (!lists.isEmpty()) {
      verifier.setCrlSource(new ExternalResourcesCRLSource(lists.toArray(new DSSDocument[0])));
    }
    PDFDocumentValidator validator = new PDFDocumentValidator(new FileDocument(request[0]));
    validator.setCertificateVerifier(verifier);
    if (!request[1].isEmpty()) {
      validator.setValidationTime(Date.from(Instant.parse(request[1])));
    }
    if (!request[2].isEmpty()) {
      validator.setPasswordProtection(request[2].toCharArray());
    }
    Reports reports = validator.validateDocument();
    SimpleReport simple = reports.getSimpleReport();
    DiagnosticData data = reports.getDiagnosticData();
    List<String> signatures = new ArrayList<>();
    for (SignatureWrapper signature : data.getSignatures()) {
      signatures.add(describe(simple, signature.getId(), field("level", signature.getSignatureFormat()),
          field("field", signature.getFirstFieldName()), "\"timestamps\":" + stamps(simple, signature.getTimestampList())));
    }
    return "{\"signatures\":[" + String.join(",", signatures) + "],\"timestamps\":" + stamps(simple, data.getTimestampList())
        + "," + field("validated_at", simple.getValidationTime().toInstant())
        + "," + field("simple_report", reports.getXmlSimpleReport()) + "," + field("detailed_report", reports.getXmlDetailedReport())
        + "," + field("diagnostic_data", reports.getXmlDiagnosticData()) + "}";
  }

  private static String stamps(SimpleReport simple, List<TimestampWrapper> stamps) {
    List<String> found = new ArrayList<>();
    for (TimestampWrapper stamp : stamps) {
      found.add(describe(simple, stamp.getId(), field("type", stamp.getType()), field("at", stamp.getProductionTime().toInstant())));
    }
    return "[" + String.join(",", found) + "]";
  }

  private static String describe(SimpleReport simple, String id, String... more) {
    return "{" + field("indication", simple.getIndication(id)) + "," + field("sub_indication", simple.getSubIndication(id)) + ","
        + "\"errors\":" + texts(simple.getAdESValidationErrors(id)) + ",\"warnings\":" + texts(simple.getAdESValidationWarnings(id))
        + "," + String.join(",", more) + "}";
  }

  private static String texts(List<Message> messages) {
    List<String> found = new ArrayList<>();
    for (Message message : messages) {
      found.add(quote(message.getValue()));
    }
    return "[" + String.join(",", found) + "]";
  }

  private static String field(String name, Object value) {
    return quote(name) + ":" + (value == null ? "null" : quote(Objects.toString(value)));
  }

  private static String quote(String text) {
    StringBuilder out = new StringBuilder("\"");
    for (char letter : text.toCharArray()) {
      out.append(letter < ' ' || letter == '"' || letter == '\\' ? String.format("\\u%04x", (int) letter) : String.valueOf(letter));
    }
    return out.append('"').toString();
  }
}
