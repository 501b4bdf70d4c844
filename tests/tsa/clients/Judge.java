import java.io.FileInputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.security.cert.CertPath;
import java.security.cert.CertPathValidator;
import java.security.cert.CertificateFactory;
import java.security.cert.PKIXParameters;
import java.security.cert.TrustAnchor;
import java.security.cert.X509Certificate;
import java.util.Arrays;
import java.util.Collection;
import java.util.List;
import java.util.Set;
import org.bouncycastle.cert.X509CertificateHolder;
import org.bouncycastle.cert.jcajce.JcaX509CertificateConverter;
import org.bouncycastle.cms.jcajce.JcaSimpleSignerInfoVerifierBuilder;
import org.bouncycastle.jce.provider.BouncyCastleProvider;
import org.bouncycastle.tsp.TimeStampRequest;
import org.bouncycastle.tsp.TimeStampResponse;
import org.bouncycastle.tsp.TimeStampToken;

/** BouncyCastle's verdict: Judge query reply data root.pem issuing.pem; prints the unit's name, or fails. */
class Judge {
    public static void main(String[] files) throws Exception {
        TimeStampRequest request = new TimeStampRequest(Files.readAllBytes(Path.of(files[0])));
        TimeStampResponse response = new TimeStampResponse(Files.readAllBytes(Path.of(files[1])));
        response.validate(request); // status, nonce, policy, imprint, ESSCertID's presence
        TimeStampToken token = response.getTimeStampToken();
        byte[] data = Files.readAllBytes(Path.of(files[2]));
        String name = "SHA-256";
        if (!Arrays.equals(MessageDigest.getInstance(name).digest(data), token.getTimeStampInfo().getMessageImprintDigest())) {
            throw new IllegalStateException("the imprint is of other data");
        }
        Collection<X509CertificateHolder> found = token.getCertificates().getMatches(token.getSID());
        X509CertificateHolder holder = found.iterator().next();
        BouncyCastleProvider provider = new BouncyCastleProvider();
        token.validate(new JcaSimpleSignerInfoVerifierBuilder().setProvider(provider).build(holder)); // EKU, ESSCertID, signature
        CertificateFactory factory = CertificateFactory.getInstance("X.509");
        X509Certificate root = read(factory, files[3]), issuing = read(factory, files[4]);
        X509Certificate unit = new JcaX509CertificateConverter().getCertificate(holder);
        PKIXParameters parameters = new PKIXParameters(Set.of(new TrustAnchor(root, null)));
        parameters.setRevocationEnabled(false);
        parameters.setDate(token.getTimeStampInfo().getGenTime());
        CertPath path = factory.generateCertPath(List.of(unit, issuing));
        CertPathValidator.getInstance("PKIX").validate(path, parameters);
        System.out.println("valid " + unit.getSubjectX500Principal());
    }

    private static X509Certificate read(CertificateFactory factory, String file) throws Exception {
        try (FileInputStream stream = new FileInputStream(file)) {
            return (X509Certificate) factory.generateCertificate(stream);
        }
    }
}
